//! Arrays of numbers as content: their type, their shape and every element.
//!
//! What is hashed is a line of text, `array <type> <shape>` such as `array f64 3x2`, and the elements behind it in
//! little-endian order, the last index running fastest. Floating-point numbers that compare as equal are equal: negative zero is
//! zero. All that are not a number are one.

use super::{Content, Fingerprint, Hash};
use crate::error::Result;

/// A number that an [`Array`] can be made of.
pub trait Number: Copy + sealed::Sealed + 'static {
    /// The name of its type, as Rust and NumPy (with `float` for `f`) call it.
    const NAME: &'static str;
    /// Appends its bytes.
    #[doc(hidden)]
    fn write(self, out: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($type:ident),+) => {
        $(impl sealed::Sealed for $type {}
        impl Number for $type {
            const NAME: &'static str = stringify!($type);
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        })+
    };
}

macro_rules! floats {
    ($($type:ident),+) => {
        $(impl sealed::Sealed for $type {}
        impl Number for $type {
            const NAME: &'static str = stringify!($type);
            fn write(self, out: &mut Vec<u8>) {
                // Adding zero makes negative zero positive, and leaves every other number as it is.
                let one_form = if self.is_nan() { $type::NAN } else { self + 0.0 };
                out.extend_from_slice(&one_form.to_le_bytes());
            }
        })+
    };
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);
floats!(f32, f64);

/// Numbers in a shape.
///
/// ```
/// use larder::fingerprint::{Array, Fingerprint, Hash};
/// let matrix = Fingerprint::of(&Array::shaped(&[1.0, 2.0, 3.0, 4.0], &[2, 2]), Hash::Xxh3)?;
/// let row = Fingerprint::of(&Array::of(&[1.0, 2.0, 3.0, 4.0]), Hash::Xxh3)?;
/// assert_ne!(matrix, row);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Array<'a, T> {
    elements: &'a [T],
    shape: Shape<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    Line,
    Of(&'a [usize]),
}

impl<'a, T: Number> Array<'a, T> {
    /// Numbers in a line.
    pub fn of(elements: &'a [T]) -> Self {
        Array { elements, shape: Shape::Line }
    }

    /// Numbers in the shape that `lengths` gives, the last index running fastest.
    ///
    /// # Panics
    /// If the shape has not as many places as there are numbers.
    pub fn shaped(elements: &'a [T], lengths: &'a [usize]) -> Self {
        assert_eq!(lengths.iter().product::<usize>(), elements.len(), "an array has as many numbers as its shape has places");
        Array { elements, shape: Shape::Of(lengths) }
    }
}

impl<T: Number> Content for Array<'_, T> {
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
        let line = [self.elements.len()];
        let shape = match self.shape {
            Shape::Line => &line,
            Shape::Of(lengths) => lengths,
        };
        Ok(of_numbers(shape, self.elements.iter().copied(), hash))
    }
}

fn of_numbers<T: Number>(shape: &[usize], elements: impl Iterator<Item = T>, hash: Hash) -> Fingerprint {
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let mut out = format!("array {} {}\n", T::NAME, shape.join("x")).into_bytes();
    out.reserve(elements.size_hint().0 * size_of::<T>());
    elements.for_each(|element| element.write(&mut out));
    hash.of(&out)
}

/// Whatever its layout in memory.
#[cfg(feature = "ndarray")]
impl<T: Number, S: ndarray::Data<Elem = T>, D: ndarray::Dimension> Content for ndarray::ArrayBase<S, D> {
    fn fingerprint(&self, hash: Hash) -> Result<Fingerprint> {
        Ok(of_numbers(self.shape(), self.iter().copied(), hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print<T: Number>(elements: &[T], shape: &[usize]) -> Fingerprint {
        Array::shaped(elements, shape).fingerprint(Hash::Xxh3).unwrap()
    }

    #[test]
    fn type_and_shape_count() {
        let all = [
            print(&[1u8, 2, 3, 4], &[4]),
            print(&[1u8, 2, 3, 4], &[2, 2]),
            print(&[1u8, 2, 3, 4], &[1, 4]),
            print(&[1i8, 2, 3, 4], &[4]),
            print(&[1u32, 2, 3, 4], &[4]),
            print(&[1f32, 2.0, 3.0, 4.0], &[4]),
            print(&[1f64, 2.0, 3.0, 4.0], &[4]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], Array::of(&[1u8, 2, 3, 4]).fingerprint(Hash::Xxh3).unwrap());
    }

    #[test]
    fn equal_numbers_are_equal_content() {
        assert_eq!(print(&[0.0, 1.0], &[2]), print(&[-0.0, 1.0], &[2]));
        let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 0x8000_0000_0000_0001);
        assert!(other_nan.is_nan());
        assert_eq!(print(&[f64::NAN], &[1]), print(&[other_nan], &[1]));
        assert_ne!(print(&[f64::NAN], &[1]), print(&[f64::INFINITY], &[1]));
    }

    #[test]
    #[should_panic(expected = "as many numbers")]
    fn a_shape_that_does_not_fit_is_a_mistake() {
        let _ = Array::shaped(&[1u8, 2, 3], &[2, 2]);
    }

    proptest! {
        /// The seed system hashed the first hundred.
        #[test]
        fn any_changed_element_counts(
            mut elements in proptest::collection::vec(any::<i64>(), 1..400),
            at: prop::sample::Index,
            by in 1..i64::MAX,
        ) {
            let before = print(&elements, &[elements.len()]);
            let at = at.index(elements.len());
            elements[at] = elements[at].wrapping_add(by);
            prop_assert_ne!(print(&elements, &[elements.len()]), before);
        }
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn the_layout_in_memory_does_not_count() {
        use ndarray::{Array2, ShapeBuilder};
        let rows = Array2::from_shape_vec((2, 3), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let columns = Array2::from_shape_vec((2, 3).f(), vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap();
        assert_eq!(rows, columns);
        let expected = print(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        assert_eq!(rows.fingerprint(Hash::Xxh3).unwrap(), expected);
        assert_eq!(columns.fingerprint(Hash::Xxh3).unwrap(), expected);
        assert_ne!(rows.t().fingerprint(Hash::Xxh3).unwrap(), expected);
    }
}
