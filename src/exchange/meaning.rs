//! The one table of what each fault means to client, log, metric and `Proxy-Status`.

use http::StatusCode;

use super::Fault;

/// What a fault means to everybody who hears of it.
#[derive(Debug, Clone, Copy)]
pub struct Meaning {
    /// Stable name: the problem's `type`, the log's reason, the metric's `error_type`.
    pub code: &'static str,
    /// Status towards the client.
    pub status: StatusCode,
    /// The problem's `title`.
    pub title: &'static str,
    /// The problem's `detail`: fixed, so that nothing internal can slip in.
    pub detail: &'static str,
    /// Status towards a gRPC client (the canonical codes of gRPC).
    pub grpc: u8,
    /// Error type in `Proxy-Status` (RFC 9209 section 2.3).
    pub proxy_status: &'static str,
}

/// The canonical codes of gRPC.
mod grpc {
    pub(super) const INVALID_ARGUMENT: u8 = 3;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const PERMISSION_DENIED: u8 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const FAILED_PRECONDITION: u8 = 9;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const INTERNAL: u8 = 13;
    pub(super) const UNAVAILABLE: u8 = 14;
    pub(super) const UNAUTHENTICATED: u8 = 16;
}

/// The table, in the order of the enum.
pub(super) static TABLE: [(Fault, Meaning); 39] = [
    (
        Fault::BadRequest,
        Meaning {
            code: "bad_request",
            status: StatusCode::BAD_REQUEST,
            title: "Bad request",
            detail: "The request is not valid HTTP.",
            grpc: grpc::INTERNAL,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::BadPath,
        Meaning {
            code: "bad_path",
            status: StatusCode::BAD_REQUEST,
            title: "Bad path",
            detail: "The path holds characters or escapes that are not accepted.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::BadHost,
        Meaning {
            code: "bad_host",
            status: StatusCode::BAD_REQUEST,
            title: "Bad host",
            detail: "The host is missing or not valid.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::UriTooLong,
        Meaning {
            code: "uri_too_long",
            status: StatusCode::URI_TOO_LONG,
            title: "URI too long",
            detail: "The request target is too long.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::HeadersTooLarge,
        Meaning {
            code: "headers_too_large",
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            title: "Headers too large",
            detail: "The request has too many or too large headers.",
            grpc: grpc::RESOURCE_EXHAUSTED,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::HeaderTimeout,
        Meaning {
            code: "header_timeout",
            status: StatusCode::REQUEST_TIMEOUT,
            title: "Request timeout",
            detail: "The request did not arrive in time.",
            grpc: grpc::DEADLINE_EXCEEDED,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::BodyTimeout,
        Meaning {
            code: "body_timeout",
            status: StatusCode::REQUEST_TIMEOUT,
            title: "Request timeout",
            detail: "The request body did not arrive in time.",
            grpc: grpc::DEADLINE_EXCEEDED,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::BodyTooLarge,
        Meaning {
            code: "body_too_large",
            status: StatusCode::PAYLOAD_TOO_LARGE,
            title: "Body too large",
            detail: "The request body is too large.",
            grpc: grpc::RESOURCE_EXHAUSTED,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::UnsupportedMediaType,
        Meaning {
            code: "unsupported_media_type",
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            title: "Unsupported media type",
            detail: "The request body has to be JSON, and not compressed.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::BadBody,
        Meaning {
            code: "bad_body",
            status: StatusCode::BAD_REQUEST,
            title: "Bad body",
            detail: "The request body is not JSON that can be read.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::ExpectationFailed,
        Meaning {
            code: "expectation_failed",
            status: StatusCode::EXPECTATION_FAILED,
            title: "Expectation failed",
            detail: "Only `100-continue` can be expected.",
            grpc: grpc::INVALID_ARGUMENT,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::VersionNotSupported,
        Meaning {
            code: "version_not_supported",
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            title: "HTTP version not supported",
            detail: "This version of HTTP is not spoken here.",
            grpc: grpc::INTERNAL,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::NotImplemented,
        Meaning {
            code: "not_implemented",
            status: StatusCode::NOT_IMPLEMENTED,
            title: "Not implemented",
            detail: "This is not spoken over HTTP/2 here; HTTP/1.1 may do.",
            grpc: grpc::UNIMPLEMENTED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::NotFound,
        Meaning {
            code: "not_found",
            status: StatusCode::NOT_FOUND,
            title: "Not found",
            detail: "Nothing is served at this address.",
            grpc: grpc::UNIMPLEMENTED,
            proxy_status: "destination_not_found",
        },
    ),
    (
        Fault::MethodNotAllowed,
        Meaning {
            code: "method_not_allowed",
            status: StatusCode::METHOD_NOT_ALLOWED,
            title: "Method not allowed",
            detail: "This address does not take this method.",
            grpc: grpc::UNIMPLEMENTED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::MisdirectedRequest,
        Meaning {
            code: "misdirected_request",
            status: StatusCode::MISDIRECTED_REQUEST,
            title: "Misdirected request",
            detail: "This host is not served here.",
            grpc: grpc::UNIMPLEMENTED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::Unauthenticated,
        Meaning {
            code: "unauthenticated",
            status: StatusCode::UNAUTHORIZED,
            title: "Unauthorized",
            detail: "This address wants to know who is calling, by a credential that holds.",
            grpc: grpc::UNAUTHENTICATED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::AuthUnavailable,
        Meaning {
            code: "auth_unavailable",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service unavailable",
            detail: "Right now nobody can say whether the credential holds. Please try again later.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::Forbidden,
        Meaning {
            code: "forbidden",
            status: StatusCode::FORBIDDEN,
            title: "Forbidden",
            detail: "This is not allowed from here.",
            grpc: grpc::PERMISSION_DENIED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::Gone,
        Meaning {
            code: "gone",
            status: StatusCode::GONE,
            title: "Gone",
            detail: "This version has been retired.",
            grpc: grpc::UNIMPLEMENTED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::Maintenance,
        Meaning {
            code: "maintenance",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Under maintenance",
            detail: "This address is closed for maintenance.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::LoopDetected,
        Meaning {
            code: "loop_detected",
            status: StatusCode::LOOP_DETECTED,
            title: "Loop detected",
            detail: "The request has passed here before.",
            grpc: grpc::FAILED_PRECONDITION,
            proxy_status: "proxy_loop_detected",
        },
    ),
    (
        Fault::NoTarget,
        Meaning {
            code: "no_target",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service unavailable",
            detail: "The service behind this address is not available.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "destination_unavailable",
        },
    ),
    (
        Fault::CircuitOpen,
        Meaning {
            code: "circuit_open",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service unavailable",
            detail: "The service behind this address fails too often; it is left alone for a while.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "destination_unavailable",
        },
    ),
    (
        Fault::NoCredential,
        Meaning {
            code: "no_credential",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service unavailable",
            detail: "The service behind this address cannot be asked right now. Please try again later.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "proxy_internal_error",
        },
    ),
    (
        Fault::ConnectFailure,
        Meaning {
            code: "connect_failure",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address could not be reached.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_refused",
        },
    ),
    (
        Fault::ConnectTimeout,
        Meaning {
            code: "connect_timeout",
            status: StatusCode::GATEWAY_TIMEOUT,
            title: "Gateway timeout",
            detail: "The service behind this address could not be reached in time.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_timeout",
        },
    ),
    (
        Fault::TlsFailure,
        Meaning {
            code: "tls_failure",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "No secure connection to the service behind this address.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "tls_protocol_error",
        },
    ),
    (
        Fault::Reset,
        Meaning {
            code: "reset",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address closed the connection.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_terminated",
        },
    ),
    (
        Fault::RefusedStream,
        Meaning {
            code: "refused_stream",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address did not take the request.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_terminated",
        },
    ),
    (
        Fault::Timeout,
        Meaning {
            code: "timeout",
            status: StatusCode::GATEWAY_TIMEOUT,
            title: "Gateway timeout",
            detail: "The service behind this address did not answer in time.",
            grpc: grpc::DEADLINE_EXCEEDED,
            proxy_status: "http_response_timeout",
        },
    ),
    (
        Fault::ResponseTooLarge,
        Meaning {
            code: "response_too_large",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address gave an answer that is too long.",
            grpc: grpc::RESOURCE_EXHAUSTED,
            proxy_status: "http_response_body_size",
        },
    ),
    (
        Fault::ProtocolError,
        Meaning {
            code: "protocol_error",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address gave an answer that is not valid HTTP.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "http_protocol_error",
        },
    ),
    (
        Fault::BadAnswer,
        Meaning {
            code: "bad_answer",
            status: StatusCode::BAD_GATEWAY,
            title: "Bad gateway",
            detail: "The service behind this address gave an answer that cannot be read.",
            grpc: grpc::INTERNAL,
            proxy_status: "http_protocol_error",
        },
    ),
    (
        Fault::ClientError,
        Meaning {
            code: "client_error",
            status: StatusCode::BAD_REQUEST,
            title: "Bad request",
            detail: "The request body broke off or is not valid.",
            grpc: grpc::INTERNAL,
            proxy_status: "http_request_error",
        },
    ),
    (
        Fault::TooManyRequests,
        Meaning {
            code: "too_many_requests",
            status: StatusCode::TOO_MANY_REQUESTS,
            title: "Too many requests",
            detail: "There are too many requests from this address. Please try again later.",
            grpc: grpc::RESOURCE_EXHAUSTED,
            proxy_status: "http_request_denied",
        },
    ),
    (
        Fault::Overload,
        Meaning {
            code: "overload",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service overloaded",
            detail: "There are too many requests right now. Please try again later.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_limit_reached",
        },
    ),
    (
        Fault::Stopped,
        Meaning {
            code: "stopped",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Service unavailable",
            detail: "The gateway stopped before the answer was whole.",
            grpc: grpc::UNAVAILABLE,
            proxy_status: "connection_terminated",
        },
    ),
    (
        Fault::Internal,
        Meaning {
            code: "internal_error",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            title: "Internal error",
            detail: "The gateway made a mistake.",
            grpc: grpc::INTERNAL,
            proxy_status: "proxy_internal_error",
        },
    ),
];

/// What a fault without a row would mean; a test sees to it that there is none.
pub(super) static INTERNAL: Meaning = Meaning {
    code: "internal_error",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    title: "Internal error",
    detail: "The gateway made a mistake.",
    grpc: grpc::INTERNAL,
    proxy_status: "proxy_internal_error",
};
