//! When values expire: `EXPIRE`, `TTL` and their like.

use larder::{Change, Life};

use super::strings::change;
use super::{Call, Done, Refusal};

/// How a time is told: in what unit, and whether from now or since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    unit: i64,
    is_relative: bool,
}

/// `EXPIRE`, `TTL`
pub const IN_SECONDS: Time = Time { unit: 1_000, is_relative: true };
/// `PEXPIRE`, `PTTL`
pub const IN_MILLISECONDS: Time = Time { unit: 1, is_relative: true };
/// `EXPIREAT`, `EXPIRETIME`
pub const AT_SECONDS: Time = Time { unit: 1_000, is_relative: false };
/// `PEXPIREAT`, `PEXPIRETIME`
pub const AT_MILLISECONDS: Time = Time { unit: 1, is_relative: false };

/// On what a life is set.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// It has no end.
    nx: bool,
    /// It has one.
    xx: bool,
    /// The new end is later.
    gt: bool,
    /// The new end is earlier.
    lt: bool,
}

impl Conditions {
    fn of(call: &Call<'_>) -> Result<Self, Refusal> {
        let mut conditions = Conditions::default();
        for word in call.args.skip(3).iter() {
            match word {
                word if word.eq_ignore_ascii_case(b"NX") => conditions.nx = true,
                word if word.eq_ignore_ascii_case(b"XX") => conditions.xx = true,
                word if word.eq_ignore_ascii_case(b"GT") => conditions.gt = true,
                word if word.eq_ignore_ascii_case(b"LT") => conditions.lt = true,
                other => return Err(Refusal::of([b"ERR Unsupported option ", other].concat())),
            }
        }
        let Conditions { nx, xx, gt, lt } = conditions;
        if nx && (xx || gt || lt) {
            return Err(Refusal::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if gt && lt {
            return Err(Refusal::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether an end may be set in the place of another one; no end is later than any.
    fn hold(self, before: Option<u64>, after: i64) -> bool {
        let before = before.map(|before| before.min(i64::MAX as u64) as i64);
        !(self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| after <= before)
            || self.lt && before.is_some_and(|before| after >= before))
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]` and the three others
pub async fn expire(call: &mut Call<'_>, time: Time) -> Done {
    let key = call.args.at(1);
    let conditions = Conditions::of(call)?;
    let number = call.integer(2)?;
    let wrong = || {
        let name = call.args.at(0).to_ascii_lowercase();
        Refusal::of([b"ERR invalid expire time in '", &*name, b"' command"].concat())
    };
    let now = call.resp.now_ms() as i64;
    let ms = number.checked_mul(time.unit).ok_or_else(wrong)?;
    let at = if time.is_relative { ms.checked_add(now).ok_or_else(wrong)? } else { ms };
    let _held = call.hold(key).await?;
    let changed = change(call, key, |entry| match entry {
        Some(entry) if conditions.hold(entry.expires_at(), at) => {
            let change = if at <= now { Change::Remove } else { Change::Life(Life::Until(at.unsigned_abs())) };
            (change, true)
        }
        _ => (Change::Keep, false),
    });
    let is_set = changed.await?;
    call.out.integer(is_set.into());
    Ok(())
}

/// `PERSIST key`
pub async fn persist(call: &mut Call<'_>) -> Done {
    let key = call.args.at(1);
    let _held = call.hold(key).await?;
    let changed = change(call, key, |entry| match entry.and_then(larder::Answer::expires_at) {
        Some(_) => (Change::Life(Life::Forever), true),
        None => (Change::Keep, false),
    });
    let is_set = changed.await?;
    call.out.integer(is_set.into());
    Ok(())
}

/// `TTL key` and the three others: -2 without a value, -1 without an end
pub async fn left(call: &mut Call<'_>, time: Time) -> Done {
    let entry = super::keys::look(call, call.args.at(1)).await?;
    let told = match entry.map(|entry| entry.expires_at()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => {
            let at = at.min(i64::MAX as u64) as i64;
            let ms = if time.is_relative { (at - call.resp.now_ms() as i64).max(0) } else { at };
            // To the nearest second, as there.
            if time.unit == 1 { ms } else { ms.saturating_add(500) / 1_000 }
        }
    };
    call.out.integer(told);
    Ok(())
}
