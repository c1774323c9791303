//! The synchronisation primitives that the protocol's own code uses, in one place, so that the scheduler tests can swap
//! them for shuttle's and try interleavings that a real machine would show once a year.

#[cfg(not(feature = "shuttle"))]
mod primitives {
    pub(crate) use parking_lot::{Mutex, RwLock};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
}

#[cfg(feature = "shuttle")]
mod primitives {
    pub(crate) use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

    /// shuttle's lock with parking_lot's face: a test that panicked has failed already, so poison says nothing new.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no test goes on after a panic")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            RwLock(shuttle::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().expect("no test goes on after a panic")
        }

        pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect("no test goes on after a panic")
        }
    }
}

pub(crate) use primitives::*;
pub(crate) use std::sync::atomic::Ordering;
