//! Types of values: one per namespace, bytes beside them, and every codec and compression through the disk and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder::{Codec, Compression, ErrorKind, Item, Larder, Lookup, Policy, Source};
use serde::{Deserialize, Serialize};

use crate::support::{in_memory, over_own_tier, with_policy};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Features {
    symbol: String,
    values: Vec<f64>,
    by_horizon: BTreeMap<String, Option<i64>>,
}

fn features() -> Features {
    let by_horizon = [("5m".to_string(), Some(-3)), ("1h".to_string(), None)].into();
    Features { symbol: "AAPL".to_string(), values: vec![0.1, f64::MIN_POSITIVE, -1e300], by_horizon }
}

#[tokio::test]
async fn a_namespace_is_of_one_type() {
    let (larder, _) = with_policy(Policy::default()).await;
    let numbers = larder.namespace::<u32>("n").unwrap();
    numbers.put("k", 1).await.unwrap();
    let error = larder.namespace::<String>("n").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.to_string().contains("\"n\" holds u32") && error.to_string().contains("String"), "{error}");
    assert_eq!(larder.namespace::<u32>("n").unwrap().get("k").await.unwrap().unwrap(), 1);
    let (builder, _) = in_memory();
    let larder = builder.namespace("n", Policy::default().codec(Codec::Bytes)).build().await.unwrap();
    assert_eq!(larder.namespace::<u32>("n").err().unwrap().kind(), ErrorKind::InvalidConfig);
    assert!(larder.namespace::<String>("n").is_ok());
}

#[tokio::test]
async fn values_are_read_raw_in_their_encoded_form() {
    for (codec, encoded) in [(Codec::Json, b"[1,2]".as_slice()), (Codec::Postcard, b"\x02\x01\x02"), (Codec::MessagePack, b"\x92\x01\x02")]
    {
        let (larder, _) = with_policy(Policy::default().codec(codec)).await;
        let lists = larder.namespace::<Vec<u32>>("n").unwrap();
        lists.put("k", vec![1, 2]).await.unwrap();
        let Lookup::Hit(answer) = larder.raw().lookup("n:k").await.unwrap() else { panic!("it was just put") };
        assert_eq!((&answer.value[..], answer.source), (encoded, Source::Memory));
        assert_eq!(larder.raw().peek("n:k").await.unwrap().unwrap().value, Bytes::from_static(encoded));
        assert_eq!(lists.get("k").await.unwrap().unwrap(), vec![1, 2], "reading bytes changes nothing");
        let found = larder.raw().lookup_many(["n:absent", "n:k", "other:k"]).await.unwrap();
        assert_eq!(found.into_iter().map(|lookup| lookup.fresh().is_some()).collect::<Vec<_>>(), [false, true, false]);
    }
}

#[tokio::test]
async fn bytes_that_are_put_raw_are_read_as_values() {
    for (codec, encoded) in [(Codec::Json, b"[1,2]".as_slice()), (Codec::Postcard, b"\x02\x01\x02"), (Codec::MessagePack, b"\x92\x01\x02")]
    {
        let (builder, _, tier) = over_own_tier();
        let larder = builder.namespace("n", Policy::default().codec(codec)).build().await.unwrap();
        let lists = larder.namespace::<Vec<u32>>("n").unwrap();
        larder.raw().put("n:k", Item::new(Bytes::from_static(encoded)).tag("t")).await.unwrap();
        let value = lists.get("k").await.unwrap().unwrap();
        assert_eq!((&*value, value.tags().collect::<Vec<_>>()), (&vec![1, 2], vec![b"t".as_slice()]));
        // The same from behind, in another cache over the same tier's record: here, after memory let it go.
        assert!(tier.record("n:k").is_some());
        assert_eq!(larder.raw().lookup("n:k").await.unwrap().fresh().unwrap(), Bytes::from_static(encoded));
        larder.raw().put("n:bad", Item::new(Bytes::from_static(b"\xc1 no list"))).await.unwrap();
        assert!(lists.get("bad").await.unwrap().is_none(), "what cannot be read is a miss");
        assert!(larder.stats().total.counts.backing_errors > 0, "and not a silent one");
    }
}

/// What a codec wrote is read after the folder was closed and opened again, from the disk.
async fn through_the_disk<V: larder::Value + Clone + PartialEq + std::fmt::Debug>(policy: Policy, value: V) {
    let folder = tempfile::tempdir().unwrap();
    let open = async || Larder::builder().data(folder.path()).namespace("n", policy.clone()).build().await.unwrap();
    let larder = open().await;
    let values = larder.namespace::<V>("n").unwrap();
    values.put("k", Item::new(value.clone()).tag("t").media_type("x/y")).await.unwrap();
    larder.raw().put("n:raw", Item::new(larder.raw().peek("n:k").await.unwrap().unwrap().value.as_ref().clone())).await.unwrap();
    larder.close().await.unwrap();
    drop((values, larder));
    let larder = open().await;
    let values = larder.namespace::<V>("n").unwrap();
    let Lookup::Hit(answer) = values.lookup("k").await.unwrap() else { panic!("{policy:?} is lost") };
    assert_eq!((answer.source, answer.value.as_ref()), (Source::Backing, &value));
    assert_eq!(answer.value.tags().collect::<Vec<_>>(), [b"t"]);
    assert_eq!(answer.value.media_type(), Some("x/y"));
    assert_eq!(values.get("raw").await.unwrap().unwrap().as_ref(), &value);
    larder.close().await.unwrap();
}

#[tokio::test]
async fn each_codec_and_compression_survives_the_disk() {
    for codec in [Codec::Json, Codec::Postcard, Codec::MessagePack] {
        through_the_disk(Policy::default().codec(codec), features()).await;
    }
    through_the_disk(Policy::default(), Bytes::from_static(b"\x00\xff")).await;
    through_the_disk(Policy::default(), vec![0u8, 255]).await;
    through_the_disk(Policy::default().codec(Codec::Bytes), "text".to_string()).await;
    for compression in [Compression::Lz4, Compression::Zstd] {
        through_the_disk(Policy::default().compress(compression, 100), "again and ".repeat(1_000)).await;
        through_the_disk(Policy::default().compress(compression, 100), "short".to_string()).await;
    }
}

#[tokio::test]
async fn compression_makes_records_smaller_above_its_size_only() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let (builder, _, tier) = over_own_tier();
        let larder = builder.namespace("n", Policy::default().compress(compression, 100)).build().await.unwrap();
        let texts = larder.namespace::<String>("n").unwrap();
        texts.put("long", "again and ".repeat(1_000)).await.unwrap();
        texts.put("short", "again and ".repeat(9)).await.unwrap();
        let (long, short) = (tier.record("n:long").unwrap(), tier.record("n:short").unwrap());
        assert!(long.payload.len() < 1_000 && long.raw_len == 10_002 && long.compression == compression as u8);
        assert_eq!((short.payload.len(), short.compression), (92, 0));
    }
}
