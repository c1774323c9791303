//! Going through all entries: a server has no order and no index, so every way leads through `SCAN`, on every master.

use std::sync::Arc;

use ::redis::{Cmd, RedisResult, Value, cmd};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Inner, STAMP_LEN, decode};
use crate::error::Result;
use crate::remote::Host;
use crate::remote::link::{Data, Server, failed};
use crate::remote::{reply, script};
use crate::tier::{Gone, Keep, KeyPage, SweepPage};

/// Bytes of an entry's value that tell it from any other of the same key: its stamp and the head of its record, which has a checksum of
/// all of it, and when it was made.
const COMPARED_LEN: usize = STAMP_LEN + crate::record::HEADER;

/// Keys that one step of a scan asks for.
const SCAN_STEP: usize = 1_000;

impl Inner {
    /// One step of a scan. The place where it goes on is the node's number and the server's own cursor.
    pub(super) async fn sweep(&self, from: Option<Box<[u8]>>, limit: usize, keep: Keep) -> Result<SweepPage> {
        let server = self.server()?;
        let nodes = server.data.masters().await?;
        let (node, cursor) = place(from.as_deref());
        let Some(address) = nodes.get(node) else { return Ok(SweepPage::default()) };
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg([&escape_glob(&self.prefix), &b"*"[..]].concat()).arg("COUNT").arg(limit);
        let [next, keys] = reply::exactly(server.send_to(address.as_ref(), &scan).await.map_err(failed)?, "SCAN")?;
        let next: u64 = reply::text(next, "SCAN")?.parse().map_err(|_| reply::unexpected("SCAN"))?;
        let keys: Vec<Box<[u8]>> = reply::list(keys, "SCAN")?
            .into_iter()
            .map(|key| reply::bytes(key, "SCAN").map(|key| key[self.prefix.len().min(key.len())..].into()))
            .collect::<Result<_>>()?;
        let mut page = SweepPage { examined: keys.len() as u64, ..SweepPage::default() };
        let mut open = Vec::with_capacity(keys.len());
        for key in keys {
            match self.queued(&key) {
                // What is about to be written over is looked at, and left to who writes it.
                Some(queued) => drop(queued.map(|record| keep(&key, &record))),
                None => open.push(key),
            }
        }
        // Asked after the values were read, and once: of those, what is of an epoch that is over now is so for good.
        let mut in_force = None;
        let values = self.values(&server, open).await?;
        // Of a version that is unknown here: another instance may know it, and it is not for this one to remove.
        let mut found: Vec<_> =
            values.into_iter().filter_map(|(key, value)| decode(value.clone()).map(|record| (key, value, record))).collect();
        self.settle(&mut found, |(.., record)| Some(record)).await?;
        for (key, value, record) in found {
            if keep(&key, &record) {
                continue;
            }
            // One of another epoch than this instance's may be of one that began a moment ago, and that it has yet to hear of.
            if record.epoch != server.epoch {
                if in_force.is_none() {
                    in_force = Some(self.in_force(&server).await?.epoch);
                }
                // Empty where the server has none: what comes in its place is not known.
                if in_force.as_deref().is_none_or(|epoch| epoch.is_empty() || epoch == record.epoch.0.to_le_bytes()) {
                    continue;
                }
            }
            // As much of it as no other record of the key has: its stamp alone may be that of one that was loaded meanwhile.
            let head = &value[..value.len().min(COMPARED_LEN)];
            if self.discard(&server, &self.key(&key), head).await? {
                let bytes = (key.len() + value.len()) as u64;
                page.remove(Gone { key, bytes, is_unreadable: false });
            }
        }
        let node = if next == 0 { node + 1 } else { node };
        page.next = (node < nodes.len()).then(|| [&(node as u32).to_le_bytes()[..], &next.to_le_bytes()].concat().into());
        Ok(page)
    }

    /// The values of keys, as they are; without those that have none.
    async fn values(&self, server: &Arc<Server>, keys: Vec<Box<[u8]>>) -> Result<Vec<(Box<[u8]>, Bytes)>> {
        let values = self.mget(server, &keys.iter().map(|key| &**key).collect::<Vec<_>>()).await?;
        let found = keys.into_iter().zip(values).filter_map(|(key, value)| match value {
            Value::BulkString(bytes) => Some((key, Bytes::from(bytes))),
            // It went meanwhile, or is no entry.
            _ => None,
        });
        Ok(found.collect())
    }

    /// The first keys in order. A server has no order, so that each page looks at all keys.
    pub(super) async fn page_of_keys(&self, prefix: &[u8], from: Option<Box<[u8]>>, limit: usize) -> Result<KeyPage> {
        let (mut first, mut place, limit) = (std::collections::BTreeSet::new(), None, limit.max(1));
        loop {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let look: Keep = {
                let seen = seen.clone();
                Arc::new(move |key, _| {
                    seen.lock().push(Box::<[u8]>::from(key));
                    true
                })
            };
            place = self.sweep(place, SCAN_STEP, look).await?.next;
            let wanted = |key: &[u8]| key.starts_with(prefix) && from.as_deref().is_none_or(|from| key >= from);
            first.extend(std::mem::take(&mut *seen.lock()).into_iter().filter(|key| wanted(key)));
            while first.len() > limit + 1 {
                first.pop_last();
            }
            if place.is_none() {
                let next = if first.len() > limit { first.pop_last() } else { None };
                return Ok(KeyPage { keys: first.into_iter().collect(), next });
            }
        }
    }

    /// Takes all entries out.
    pub(super) async fn clear(&self) -> Result<()> {
        let server = self.server()?;
        for node in server.data.masters().await? {
            let mut cursor = 0u64;
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg([&escape_glob(&self.prefix), &b"*"[..]].concat()).arg("COUNT").arg(SCAN_STEP);
                let [next, keys] = reply::exactly(server.send_to(node.as_ref(), &scan).await.map_err(failed)?, "SCAN")?;
                for key in reply::list(keys, "SCAN")? {
                    let mut unlink = cmd("UNLINK");
                    unlink.arg(reply::bytes(key, "SCAN")?);
                    self.counted(server.send(&unlink).await)?;
                }
                cursor = reply::text(next, "SCAN")?.parse().map_err(|_| reply::unexpected("SCAN"))?;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Data {
    /// The nodes that have entries. `None` is the only one.
    async fn masters(&self) -> Result<Vec<Option<Host>>> {
        let Data::Cluster(connection) = self else { return Ok(vec![None]) };
        let slots = script::send(&mut connection.clone(), cmd("CLUSTER").arg("SLOTS")).await.map_err(failed)?;
        let mut masters = Vec::new();
        for range in reply::list(slots, "the cluster's slots")? {
            let owner = reply::list(range, "a range of slots")?.into_iter().nth(2).ok_or_else(|| reply::unexpected("a range of slots"))?;
            let mut owner = reply::list(owner, "a node")?.into_iter();
            let mut next = || owner.next().ok_or_else(|| reply::unexpected("a node"));
            let node = Some((reply::text(next()?, "a host")?, reply::number(next()?, "a port")? as u16));
            if !masters.contains(&node) {
                masters.push(node);
            }
        }
        masters.sort();
        Ok(masters)
    }
}

impl Server {
    async fn send_to(&self, node: Option<&Host>, command: &Cmd) -> RedisResult<Value> {
        use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
        match (&self.data, node) {
            (Data::Cluster(connection), Some((host, port))) => {
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port });
                connection.clone().route_command(command.clone(), routing).await.and_then(Value::extract_error)
            }
            _ => self.send(command).await,
        }
    }
}

/// Where a scan goes on: the node, and its cursor.
fn place(from: Option<&[u8]>) -> (usize, u64) {
    let parts = from.and_then(|from| from.split_first_chunk::<4>());
    let Some((node, cursor)) = parts else { return (0, 0) };
    (u32::from_le_bytes(*node) as usize, cursor.try_into().map_or(0, u64::from_le_bytes))
}

/// So that a prefix matches itself and nothing else.
fn escape_glob(prefix: &[u8]) -> Vec<u8> {
    prefix
        .iter()
        .flat_map(|byte| if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_goes_on_where_it_was() {
        assert_eq!(place(None), (0, 0));
        let next = [&3u32.to_le_bytes()[..], &9u64.to_le_bytes()].concat();
        assert_eq!(place(Some(&next)), (3, 9));
        assert_eq!(escape_glob(b"a*b:e:"), b"a\\*b:e:");
    }
}
