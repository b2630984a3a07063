//! The parts of the OpenAPI document besides the routes: authentication, and the errors that every route may
//! answer with.

use acuvim_model::{
    ExportFormat,
    problem::{Code, Problem},
};
use utoipa::{
    Modify, OpenApi, ToSchema as _,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tau Acuvim",
        description = "The backend for fleets of ESP32 loggers on Acuvim II power meters.",
        license(name = "Apache-2.0")
    ),
    // Only parameters name it, and utoipa collects the schemas of bodies alone.
    components(schemas(ExportFormat)),
    modifiers(&Security),
    security(("bearer" = [])),
)]
pub(super) struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApiDocument) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some("A token from /api/auth/login, or an API key".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

type OpenApiDocument = utoipa::openapi::OpenApi;

/// Errors of every route; those without a login have no 401 and 403.
const EVERYWHERE: [Code; 5] = [
    Code::BadRequest,
    Code::TooManyRequests,
    Code::Internal,
    Code::Unavailable,
    Code::DeadlineExceeded,
];
const BEHIND_A_LOGIN: [Code; 2] = [Code::Unauthorized, Code::Forbidden];
const WITH_A_BODY: [Code; 2] = [Code::TooLarge, Code::UnsupportedMediaType];

/// Gives every operation an id of its own, from its method and path: generators of clients make names of
/// them, and handlers of several resources have the same name.
pub(super) fn name_operations(document: &mut OpenApiDocument) {
    for (path, item) in &mut document.paths.paths {
        let words =
            path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let name = words.filter(|word| *word != "api").collect::<Vec<_>>().join("_");
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{name}"));
            }
        }
    }
}

/// Adds the errors of every route, and gives every error its media type.
pub(super) fn add_errors(document: &mut OpenApiDocument) {
    for (path, item) in &mut document.paths.paths {
        if !path.starts_with("/api/") && !path.starts_with("/hubs/") {
            continue;
        }
        let operations =
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        operations.into_iter().flatten().for_each(add);
    }
}

fn add(operation: &mut Operation) {
    // Routes set `security` only to take no login.
    let open = operation.security.is_some();
    let behind = BEHIND_A_LOGIN.into_iter().filter(|_| !open);
    let takes_body = operation.request_body.is_some();
    let with_body = WITH_A_BODY.into_iter().filter(|_| takes_body);
    let responses = &mut operation.responses.responses;
    for code in EVERYWHERE.into_iter().chain(behind).chain(with_body) {
        let (_, status, title) = code.row();
        let problem = ContentBuilder::new()
            .schema(Some(RefOr::Ref(Ref::from_schema_name(Problem::name()))))
            .example(Some(serde_json::json!(Problem::new(code, "what is wrong, and what to do"))))
            .build();
        let response = ResponseBuilder::new()
            .description(title)
            .content("application/problem+json", problem)
            .build();
        responses.entry(status.to_string()).or_insert(RefOr::T(response));
    }
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && !status.starts_with('2')
            && let Some(problem) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), problem);
        }
    }
}
