//! The OpenAPI description is right: every path, method and status of it is tried, and every response is validated against
//! its schema.

use std::collections::BTreeSet;

use assay_ml_api::ModelServerOptions;
use serde_json::Value;

use crate::http::ApiServer;

/// Follows `$ref`.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The part of JSON Schema that the description uses; an unknown keyword is a failure.
fn validate(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(document, schema).as_object().unwrap();
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "type" => match rule {
                Value::String(name) => is(name, value),
                names => names.as_array().unwrap().iter().any(|name| is(name.as_str().unwrap(), value)),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().unwrap() >= rule.as_f64().unwrap(),
            "maximum" => value.as_f64().unwrap() <= rule.as_f64().unwrap(),
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                let known = &schema["properties"];
                *rule == Value::Bool(false) && value.as_object().unwrap().keys().all(|name| known.get(name).is_some())
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        validate(document, schema, value)?;
                    }
                }
                true
            }
            "items" => {
                for value in value.as_array().unwrap() {
                    validate(document, rule, value)?;
                }
                true
            }
            "description" => true,
            other => return Err(format!("the test does not know `{other}`")),
        };
        if !holds {
            return Err(format!("{value} breaks `{keyword}`: {rule}"));
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "array" => value.is_array(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("no JSON type is called {other}"),
    }
}

#[tokio::test]
async fn every_response_is_as_described() {
    let server = ApiServer::start(ModelServerOptions::default()).await;
    let document = server.get("/openapi.json").await.json();
    let request = &document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"];
    let example = request["example"].to_string();
    validate(&document, &request["schema"], &request["example"]).unwrap();
    let one = example.trim_matches(['[', ']']);
    let many = format!("[{}]", vec![one; 1_001].join(","));
    let without_amount = example.replace("\"amount\"", "\"sum\"");
    let requests: [(&str, &str, &str, u64); 9] = [
        ("post", "/predict", &example, 200),
        ("post", "/predict", "[]", 200),
        ("post", "/predict", "[", 400),
        ("post", "/predict", &many, 413),
        ("post", "/predict", "{}", 422),
        ("post", "/predict", &without_amount, 422),
        ("get", "/health", "", 200),
        ("get", "/metrics", "", 200),
        ("get", "/openapi.json", "", 200),
    ];
    let mut tried = BTreeSet::new();
    for (method, path, body, status) in requests {
        let answer = server.send(&method.to_uppercase(), path, body.as_bytes()).await;
        assert_eq!(u64::from(answer.status), status, "{method} {path}");
        let described = resolve(&document, &document["paths"][path][method]["responses"][status.to_string()]);
        let (content_type, content) = described["content"].as_object().unwrap().iter().next().unwrap();
        assert!(answer.content_type.starts_with(content_type.as_str()), "{path}: {}", answer.content_type);
        let value = match content_type.as_str() {
            "application/json" => answer.json(),
            _ => Value::String(answer.body),
        };
        validate(&document, &content["schema"], &value).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        tried.insert((path.to_owned(), method.to_owned(), status.to_string()));
    }

    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                described.insert((path.clone(), method.clone(), status.clone()));
            }
        }
    }
    assert_eq!(tried, described);
}
