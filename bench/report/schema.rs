//! The schema of a result: made from the types that write it, kept in the repository for whoever reads results elsewhere.

use super::sample;
use crate::cps::report::Report;
use serde_json::Value;
use std::path::Path;

#[test]
fn schema_in_the_repository_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).expect("serializes") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("SYNFIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &schema).expect("writes");
    }
    let kept = std::fs::read_to_string(&path).expect("the schema is there");
    assert!(kept == schema, "{FILE} is not of these types: run SYNFIN_WRITE_DOCS=1 cargo test --features bench schema");
}

#[test]
fn results_have_their_schema() {
    let measured = include_str!("../../tests/fixtures/report/measured.json");
    for (name, result) in [("measured", measured), ("full", sample::FULL), ("plain", sample::PLAIN)] {
        assert_eq!(faults(&parsed(result)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_is_no_result_is_refused_by_the_schema() {
    let mut result = parsed(sample::FULL);
    result["stacks"]["synfin"]["connections_per_second"] = Value::from("fast");
    result["verdict"]["limited_by"] = Value::from("luck");
    assert_eq!(faults(&result).len(), 2, "{:?}", faults(&result));
    result.as_object_mut().expect("an object").remove("machine");
    assert!(faults(&result).iter().any(|fault| fault.contains("machine")));
}

fn faults(result: &Value) -> Vec<String> {
    let schema = parsed(include_str!("../schema/cps.json"));
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    validator.iter_errors(result).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

const FILE: &str = "bench/schema/cps.json";
