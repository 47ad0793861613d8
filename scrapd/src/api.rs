//! Stand-in until the API lands.
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves.
pub async fn serve(listener: TcpListener, router: axum::Router, shutdown: CancellationToken) {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .ok();
}
/// Routes.
pub fn routes(_daemon: Arc<crate::daemon::Daemon>) -> axum::Router {
    axum::Router::new()
}
