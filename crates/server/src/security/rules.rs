//! Which request needs what: the one table of access rules. A route that is not in it is for everybody who has a key, where one is
//! needed; so a new route is closed to strangers until somebody opens it here.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Open,
    /// A key, on a server that asks for one.
    User,
    /// An operator's key, on a server that asks for one.
    Operator,
}

/// Routes by their patterns, with the methods that a row is about; no methods: all of them.
const RULES: &[(&str, &[Method], Access)] = &[
    ("/healthz", &[], Access::Open),
    ("/health", &[], Access::Open),
    ("/readyz", &[], Access::Open),
    ("/api/status", &[], Access::Open),
    ("/api/login", &[], Access::Open),
    ("/api/models/{name}", &[Method::DELETE], Access::Operator),
    ("/api/models/{name}/pull", &[Method::POST, Method::DELETE], Access::Operator),
    ("/api/adapters/{name}", &[Method::PUT, Method::DELETE], Access::Operator),
    ("/api/feedback/statistics", &[], Access::Operator),
    ("/api/promotions/{model}", &[Method::PUT], Access::Operator),
    ("/api/promotions/{model}/rollback", &[Method::POST], Access::Operator),
    ("/api/improvements", &[], Access::Operator),
    ("/api/improvements/preview", &[], Access::Operator),
    ("/api/improvements/{id}", &[], Access::Operator),
    ("/api/improvements/{id}/discard", &[], Access::Operator),
    ("/api/improvements/{id}/promote", &[], Access::Operator),
    ("/api/pull", &[Method::POST], Access::Operator),
    ("/api/delete", &[Method::DELETE], Access::Operator),
];

/// What a request to the route with this pattern needs.
fn access(method: &Method, route: &str) -> Access {
    let row = RULES
        .iter()
        .find(|(pattern, methods, _)| *pattern == route && (methods.is_empty() || methods.contains(method)));
    row.map_or(Access::User, |(_, _, access)| *access)
}

/// What this request needs; one that no route takes needs a key, so that strangers do not learn which routes there are.
pub(crate) fn access_of(request: &Request) -> Access {
    let route = request.extensions().get::<MatchedPath>();
    access(request.method(), route.map_or("", MatchedPath::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn operations() -> Vec<(Method, String, Value)> {
        let document = crate::openapi_document();
        let paths = document["paths"].as_object().expect("paths").clone();
        let of_path = |(path, methods): (String, Value)| {
            let methods = methods.as_object().expect("methods").clone();
            let operation = move |(method, operation): (String, Value)| {
                (method.to_uppercase().parse().expect("a method"), path.clone(), operation)
            };
            methods.into_iter().map(operation).collect::<Vec<_>>()
        };
        paths.into_iter().flat_map(of_path).collect()
    }

    #[test]
    fn whatever_changes_models_or_adapters_is_for_operators() {
        let operations = operations();
        let changing = operations
            .iter()
            .filter(|(method, _, operation)| *method != Method::GET && operation["tags"][0] == "models");
        let changing: Vec<_> = changing.collect();
        assert!(changing.len() >= 5, "{changing:?}");
        for (method, path, _) in changing {
            assert_eq!(access(method, path), Access::Operator, "{method} {path}");
        }
    }

    #[test]
    fn every_rule_is_about_a_route_that_there_is() {
        let operations = operations();
        for (pattern, methods, _) in RULES {
            let found: Vec<&Method> =
                operations.iter().filter(|(_, path, _)| path == pattern).map(|(method, ..)| method).collect();
            assert!(!found.is_empty(), "{pattern}");
            for method in *methods {
                assert!(found.contains(&method), "{method} {pattern}");
            }
        }
    }

    #[test]
    fn strangers_reach_five_routes() {
        let open: BTreeSet<String> = operations()
            .into_iter()
            .filter(|(method, path, _)| access(method, path) == Access::Open)
            .map(|(_, path, _)| path)
            .collect();
        let known = ["/healthz", "/health", "/readyz", "/api/login", "/api/status"];
        assert_eq!(open, BTreeSet::from(known.map(str::to_owned)));
    }
}
