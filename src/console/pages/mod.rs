//! The table of all pages.

mod dashboard;
mod home;
mod theme;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::{Console, assets, entry};

/// Every page, by its address.
pub fn router(console: &Console) -> Router {
    Router::new()
        .route("/", get(home::show))
        .route("/theme", post(theme::choose))
        .route("/dashboard", get(dashboard::show))
        // Above this line: pages, each of which goes through `entry`.
        .route_layer(middleware::from_fn_with_state(console.clone(), entry::enter))
        .route("/static/{name}", get(assets::serve))
        .route("/robots.txt", get(assets::robots))
        .with_state(console.clone())
}
