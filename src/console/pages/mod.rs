//! The table of all pages.

mod account;
mod analytics;
mod backups;
mod bans;
mod bucket_settings;
mod buckets;
mod certificates;
mod dashboard;
mod docs;
mod forgot;
mod home;
mod issues;
mod keys;
mod kv;
mod kv_clients;
mod kv_key;
mod letters;
mod limits;
mod login;
mod mail;
mod objects;
mod scrub;
mod second_factor;
mod settings;
mod setup;
mod sites;
mod theme;
mod upstreams;
mod usage;
mod versions;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::{Console, assets, entry};

/// Every page, by its address.
pub fn router(console: &Console) -> Router {
    Router::new()
        .route("/", get(home::show))
        .route("/theme", post(theme::choose))
        .route("/setup", get(setup::show).post(setup::claim))
        .route("/reset", get(setup::show_reset).post(setup::reset))
        .route("/forgot", get(forgot::show).post(forgot::ask))
        .route("/login", get(login::show).post(login::submit))
        .route("/login/code", post(login::submit_code))
        .route("/logout", post(login::leave))
        .route("/confirm", get(login::show_confirm).post(login::confirm))
        .route("/dashboard", get(dashboard::show))
        .route("/buckets", get(buckets::list).post(buckets::create))
        .route("/buckets/{bucket}", get(objects::list))
        .route("/buckets/{bucket}/delete", get(buckets::ask_delete).post(buckets::delete))
        .route("/buckets/{bucket}/settings", get(bucket_settings::show))
        .route("/buckets/{bucket}/public", post(bucket_settings::open))
        .route("/buckets/{bucket}/quota", post(bucket_settings::limit))
        .route("/buckets/{bucket}/move", post(bucket_settings::move_to))
        .route("/buckets/{bucket}/files", post(bucket_settings::take))
        .route("/buckets/{bucket}/rotate-key", post(bucket_settings::rotate_key))
        .route("/buckets/{bucket}/close", post(bucket_settings::close))
        .route("/buckets/{bucket}/upload", post(objects::upload))
        .route("/buckets/{bucket}/object", get(objects::show))
        .route("/buckets/{bucket}/download", get(objects::download))
        .route("/buckets/{bucket}/versions", get(versions::show))
        .route("/buckets/{bucket}/versions/restore", post(versions::restore))
        .route("/buckets/{bucket}/versions/remove", get(versions::ask_remove).post(versions::remove))
        .route("/buckets/{bucket}/versions/undelete", post(versions::undelete))
        .route("/buckets/{bucket}/deleted", get(versions::deleted))
        .route("/buckets/{bucket}/picture", get(objects::picture))
        .route("/buckets/{bucket}/share", post(objects::share))
        .route("/buckets/{bucket}/remove", get(objects::ask_remove).post(objects::remove))
        .route("/scrub", get(scrub::show).post(scrub::start))
        .route("/kv", get(kv::show))
        .route("/kv/key", get(kv_key::show).post(kv_key::change))
        .route("/kv/key/delete", get(kv_key::ask_delete).post(kv_key::delete))
        .route("/kv/clients", get(kv_clients::show))
        .route("/limits", get(limits::show))
        .route("/mail", get(mail::list))
        .route("/mail/letters", get(letters::list))
        .route("/mail/letters/{name}", post(letters::send))
        .route("/mail/letters/{name}/html", get(letters::html))
        .route("/mail/{id}", get(mail::show))
        .route("/mail/{id}/html", get(mail::html))
        .route("/mail/{id}/raw", get(mail::raw))
        .route("/mail/{id}/file/{index}", get(mail::file))
        .route("/mail/{id}/retry", post(mail::retry))
        .route("/mail/{id}/cancel", get(mail::ask_cancel).post(mail::cancel))
        .route("/issues", get(issues::list))
        .route("/issues/{id}", get(issues::show))
        .route("/issues/{id}/status", post(issues::set_status))
        .route("/issues/{id}/events/{number}", get(issues::event))
        .route("/issues/{id}/events/{number}/json", get(issues::json))
        .route("/docs", get(docs::start))
        .route("/docs/{chapter}", get(docs::show))
        .route("/keys", get(keys::show))
        .route("/keys/env", get(keys::env))
        .route("/keys/access", post(keys::create_key))
        .route("/keys/access/{id}", get(keys::show_key).post(keys::change_key))
        .route("/keys/access/{id}/rotate", post(keys::rotate_key))
        .route("/keys/access/{id}/retire", post(keys::retire_secret))
        .route("/keys/access/{id}/revoke", get(keys::ask_revoke_key).post(keys::revoke_key))
        .route("/keys/tokens", post(keys::create_token))
        .route("/keys/tokens/{id}/revoke", get(keys::ask_revoke_token).post(keys::revoke_token))
        .route("/backups", get(backups::show))
        .route("/certificates", get(certificates::show))
        .route("/certificates/root", get(certificates::root))
        .route("/certificates/renew", post(certificates::renew))
        .route("/sites", get(sites::list))
        .route("/sites/show", get(sites::show))
        .route("/sites/analytics", get(analytics::show))
        .route("/sites/purge", post(sites::purge))
        .route("/bans", get(bans::show).post(bans::add))
        .route("/bans/lift", post(bans::lift))
        .route("/upstreams", get(upstreams::show))
        .route("/backups/run", post(backups::run))
        .route("/settings", get(settings::show))
        .route("/account", get(account::show))
        .route("/account/password", post(account::change_password))
        .route("/account/sessions/end-others", post(account::end_others))
        .route("/account/sessions/{id}/end", post(account::end))
        .route("/account/second-factor", get(second_factor::begin).post(second_factor::finish))
        .route("/account/second-factor/remove", get(second_factor::ask_remove).post(second_factor::remove))
        // Above this line: pages, each of which goes through `entry`.
        .route_layer(middleware::from_fn_with_state(console.clone(), entry::enter))
        .route("/static/{name}", get(assets::serve))
        .route("/robots.txt", get(assets::robots))
        .with_state(console.clone())
}
