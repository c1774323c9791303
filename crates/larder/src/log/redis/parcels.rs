//! Parcels of instances for each other, beside the log: they have no position, and an epoch does not end them.

use ::redis::Value;

use super::Inner;
use crate::error::Result;
use crate::parcels::{PARCELS_MAX, Parcel, ParcelBounds};
use crate::remote::link::{failed, query};
use crate::remote::{reply, script};

/// Where they are: in the slot of the log.
pub(super) struct ParcelKeys {
    senders: Vec<u8>,
    of: String,
}

impl ParcelKeys {
    pub(super) fn new(prefix: &str) -> Self {
        ParcelKeys { senders: format!("{{{prefix}}}:senders").into_bytes(), of: format!("{{{prefix}}}:parcels:") }
    }

    fn parcels(&self, sender: &str) -> String {
        format!("{}{sender}", self.of)
    }

    fn order(&self, sender: &str) -> String {
        format!("{}{sender}:order", self.of)
    }
}

impl Inner {
    pub(super) async fn ship(&self, sender: &str, parcels: &[Parcel], kept: ParcelBounds) -> Result<()> {
        let mut connection = self.connection()?;
        let keys = &self.keys.parcels;
        let bytes = parcels.iter().map(|parcel| parcel.bytes.len() + parcel.name.len()).sum();
        let mut call = script::sized_call(&script::SHIP, 3, (6 + 2 * parcels.len(), bytes));
        call.arg(&keys.senders).arg(keys.parcels(sender)).arg(keys.order(sender));
        let life_ms = u64::try_from(kept.life.as_millis()).unwrap_or(u64::MAX).clamp(1, LIFE_MS_MAX);
        call.arg(sender).arg(kept.parcels_max).arg(life_ms);
        for parcel in parcels {
            call.arg(&parcel.name).arg(&*parcel.bytes);
        }
        script::run(&mut connection, &call).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn senders(&self) -> Result<Vec<String>> {
        let mut ask = ::redis::cmd("ZRANGE");
        ask.arg(&self.keys.parcels.senders).arg(0).arg(-1);
        let senders = query(&mut self.connection()?, &ask).await?;
        reply::list(senders, "the senders")?.into_iter().map(|sender| reply::text(sender, "a sender")).collect()
    }

    pub(super) async fn shipped(&self, sender: &str, after: u64) -> Result<Vec<(u64, Parcel)>> {
        let mut connection = self.connection()?;
        let keys = &self.keys.parcels;
        let mut ask = ::redis::cmd("ZRANGEBYSCORE");
        ask.arg(keys.order(sender)).arg(format!("({after}")).arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(0).arg(PARCELS_MAX);
        let order = scored(query(&mut connection, &ask).await?)?;
        if order.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = ::redis::cmd("HMGET");
        ask.arg(keys.parcels(sender));
        order.iter().for_each(|(name, _)| {
            ask.arg(name);
        });
        let contents = reply::list(query(&mut connection, &ask).await?, "the parcels")?;
        let mut parcels = Vec::with_capacity(order.len());
        for ((name, number), content) in order.into_iter().zip(contents) {
            // One that went in between was too old.
            if content == Value::Nil {
                continue;
            }
            let name = String::from_utf8(name).map_err(|_| reply::unexpected("a parcel's name"))?;
            parcels.push((score(number)?, Parcel { name, bytes: reply::bytes(content, "a parcel")?.into() }));
        }
        Ok(parcels)
    }
}

/// Members with their scores: one after the other, or in pairs, as the protocol has it.
fn scored(value: Value) -> Result<Vec<(Vec<u8>, Value)>> {
    let what = "the parcels' order";
    let are_pairs = matches!(&value, Value::Array(items) if matches!(items.first(), Some(Value::Array(_))));
    if are_pairs { reply::fields_or_pairs(value, what) } else { reply::fields(value, what) }
}

/// What Redis takes for a life at most, without its clock running over.
const LIFE_MS_MAX: u64 = 1 << 42;

/// The number of a parcel: microseconds, which a float holds exactly for another two centuries.
fn score(value: Value) -> Result<u64> {
    let number = match value {
        Value::Double(number) => number,
        value => reply::text(value, "a parcel's number")?.parse().map_err(|_| reply::unexpected("a parcel's number"))?,
    };
    Ok(number as u64)
}
