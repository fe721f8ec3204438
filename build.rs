fn main() {
    // Only the addon talks to Node; the helper is an ordinary program.
    if std::env::var_os("CARGO_FEATURE_ADDON").is_some() {
        napi_build::setup();
    }
}
