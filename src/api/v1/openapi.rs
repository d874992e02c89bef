//! `/v1/openapi.json`: the table as an `OpenAPI` 3.1 document.

use serde_json::{Map, Value, json};

use super::route::{Answer, Route};
use super::schemas::schemas;
use super::table::ROUTES;

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(format!("/v1{}", route.path)).or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            item.insert(route.verb.name().to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Administration of a Mainstay server. Every request carries an API token; every error is a problem document (RFC 9457). Lists come in pages: `next`, when it is not null, is the `cursor` of the next one.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token, `mst_...`. `mainstay env` prints the first one.",
                },
            },
            "schemas": schemas(),
            "responses": {
                "Problem": {
                    "description": "Why the request is not answered.",
                    "content": {"application/problem+json": {"schema": reference("Problem")}},
                },
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn operation(route: &Route) -> Value {
    let scope = route
        .scope
        .map_or(String::from("Any token may."), |scope| format!("Needs the scope `{}`.", scope.names().join(" ")));
    let problem = json!({"$ref": "#/components/responses/Problem"});
    let mut answers = Map::new();
    answers.insert(route.status.to_string(), success(route.answer));
    answers.insert(String::from("default"), problem);
    let mut out = json!({
        "operationId": route.id,
        "tags": [tag(route)],
        "summary": route.doc,
        "description": scope,
        "parameters": parameters(route),
        "responses": answers,
    });
    if let (Some(schema), Value::Object(fields)) = (route.body, &mut out) {
        let body = json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}});
        fields.insert(String::from("requestBody"), body);
    }
    out
}

/// The first segment of the path groups the operations.
fn tag(route: &Route) -> &str {
    route.path.split('/').nth(1).unwrap_or_default()
}

fn success(answer: Answer) -> Value {
    match answer {
        Answer::Json(schema) => {
            json!({"description": "Done.", "content": {"application/json": {"schema": reference(schema)}}})
        }
        Answer::Message => json!({
            "description": "The message, with its header.",
            "content": {"message/rfc822": {"schema": {"type": "string"}}},
        }),
        Answer::Nothing => json!({"description": "Done."}),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = names.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
    );
    let in_query = route.query.iter().map(|param| {
        let schema = match param.name {
            "limit" => json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
            "project" => json!({"type": "integer", "minimum": 0}),
            _ => json!({"type": "string"}),
        };
        let (name, doc, required) = (param.name, param.doc, param.required);
        json!({"name": name, "in": "query", "description": doc, "required": required, "schema": schema})
    });
    in_path.chain(in_query).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::route::Verb;
    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str().filter(|_| name == "$ref") {
                        Some(target) => found.extend(target.rsplit('/').next().map(str::to_owned)),
                        None => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let mut written = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for verb in item.as_object().unwrap().keys() {
                written.insert((path.clone(), verb.to_uppercase()));
            }
        }
        let table: BTreeSet<_> =
            ROUTES.iter().map(|route| (format!("/v1{}", route.path), route.verb.name().to_owned())).collect();
        assert_eq!(written, table);
        assert_eq!(table.len(), ROUTES.len(), "no route is there twice");
        let ids: BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!(ids.len(), ROUTES.len(), "no operation is there twice");
    }

    #[test]
    fn every_schema_is_used_and_every_one_used_is_there() {
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let there: BTreeSet<String> = schemas().as_object().unwrap().keys().cloned().collect();
        used.retain(|name| name != "Problem" || there.contains(name));
        assert_eq!(used, there);
    }

    #[test]
    fn what_changes_something_needs_more_than_reading() {
        for route in ROUTES.iter().filter(|route| route.verb != Verb::Get && route.id != "presign") {
            assert!(route.scope.is_some_and(|scope| scope != crate::accounts::Scopes::READ), "{}", route.id);
        }
    }
}
