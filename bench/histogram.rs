//! Histograms as text: how they go from a role to the result, and from there to a log.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// HdrHistogram V2 deflated, base64; `None` only if memory ran out.
pub(crate) fn encode(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(BASE64_STANDARD.encode(bytes))
}

/// The histogram; an error in words if the text is none.
pub(crate) fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("no histogram: {error}"))?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| format!("no histogram: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_survive_being_text() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 100_000_000_000, 3).expect("bounds");
        for value in 1..10_000 {
            histogram.record(value * 997).expect("within the bounds");
        }
        let text = encode(&histogram).expect("encodes");
        assert!(text.len() < 20_000 && text.is_ascii(), "{}", text.len());
        assert_eq!(decode(&text).expect("decodes"), histogram);
        assert!(decode("AAAA").is_err() && decode("%").is_err());
    }
}
