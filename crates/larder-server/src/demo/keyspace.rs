//! The keys that the demo reads: `features:AAPL:1d` and `prediction:AAPL:1mo:blend-v2`.

use super::horizon::Horizon;
use super::market::{Market, SymbolId};
use super::model::ModelId;

/// The number of a key within its [`Keyspace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// The place of the key in tables that have one row for each.
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("a key's number came from a place in memory")
    }
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The features of a symbol at a horizon.
    Features,
    /// What one model line makes of them.
    Prediction(ModelId),
}

/// A key and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its number.
    pub id: KeyId,
    /// Its whole name, namespace first.
    pub name: String,
    /// Whose value it holds.
    pub symbol: SymbolId,
    /// At which horizon.
    pub horizon: Horizon,
    /// Features or a prediction.
    pub kind: Kind,
}

impl Key {
    /// The name without its namespace: `AAPL:1d`.
    pub fn within_namespace(&self) -> &str {
        self.name.split_once(':').map_or(self.name.as_str(), |(_, rest)| rest)
    }
}

/// Every key, and which of them hang on a symbol or on a model line.
#[derive(Debug)]
pub struct Keyspace {
    keys: Vec<Key>,
    of_symbol: Vec<Vec<KeyId>>,
    of_model: Vec<Vec<KeyId>>,
}

impl Keyspace {
    /// A features key, and a prediction key of each line, for every symbol and horizon.
    pub fn of(market: &Market) -> Self {
        let mut keyspace = Self {
            keys: Vec::new(),
            of_symbol: vec![Vec::new(); market.symbols().len()],
            of_model: vec![Vec::new(); ModelId::all().len()],
        };
        for symbol in market.symbols() {
            let ticker = market.name(symbol);
            for horizon in Horizon::ALL {
                keyspace.add(format!("features:{ticker}:{horizon}"), symbol, horizon, Kind::Features);
                for model in ModelId::all() {
                    let name = format!("prediction:{ticker}:{horizon}:{}", model.line());
                    keyspace.add(name, symbol, horizon, Kind::Prediction(model));
                }
            }
        }
        keyspace
    }

    fn add(&mut self, name: String, symbol: SymbolId, horizon: Horizon, kind: Kind) {
        let id = KeyId(u32::try_from(self.keys.len()).expect("a market has far fewer than 2^32 keys"));
        self.of_symbol[symbol.index()].push(id);
        if let Kind::Prediction(model) = kind {
            self.of_model[model.index()].push(id);
        }
        self.keys.push(Key { id, name, symbol, horizon, kind });
    }

    /// Every key, in the order of its number.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key with this number.
    pub fn key(&self, id: KeyId) -> &Key {
        &self.keys[id.index()]
    }

    /// The keys whose values a new bar of the symbol makes wrong.
    pub fn of_symbol(&self, symbol: SymbolId) -> &[KeyId] {
        &self.of_symbol[symbol.index()]
    }

    /// The keys whose values a new release of the line makes wrong.
    pub fn of_model(&self, model: ModelId) -> &[KeyId] {
        &self.of_model[model.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_what_they_hang_on() {
        let market = Market::bundled().expect("the bundled files parse");
        let keyspace = Keyspace::of(&market);
        assert_eq!(keyspace.keys().len(), 22 * 5 * (1 + 6));
        assert_eq!(keyspace.keys()[0].name, "features:AAPL:1d");
        assert_eq!(keyspace.keys()[0].within_namespace(), "AAPL:1d");
        assert_eq!(keyspace.keys()[6].name, "prediction:AAPL:1d:blend-v2");
        for key in keyspace.keys() {
            assert_eq!(keyspace.key(key.id), key);
            assert!(key.name.contains(&format!(":{}:", market.name(key.symbol))));
            assert!(keyspace.of_symbol(key.symbol).contains(&key.id));
            if let Kind::Prediction(model) = key.kind {
                assert!(keyspace.of_model(model).contains(&key.id));
            }
        }
        let of_models: usize = ModelId::all().map(|model| keyspace.of_model(model).len()).sum();
        assert_eq!(of_models, 22 * 5 * 6);
    }
}
