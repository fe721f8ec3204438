"use strict"

// What the engine takes from the process's environment, read here at each call: inside the addon it would be another
// one under Jest, where process.env is a copy.

const os = require("node:os")
const path = require("node:path")
const { helperPath } = require("./native.js")

/** The defaults of the engine's options; src/node/options says what they mean. */
function defaults(env = process.env) {
  const home = homeOf(env)
  const docker = env.DOCKER_CONFIG || path.join(home, ".docker")
  return {
    stateDir: stateDir(env),
    mirrors: env.ALIEN_REGISTRY_MIRRORS || "",
    dockerConfig: env.REGISTRY_AUTH_FILE || path.join(docker, "config.json"),
    dockerHost: env.DOCKER_HOST || "",
    // Of the folder the deployment keeps the path, which is to be the same from everywhere.
    dockerCertificates: env.DOCKER_TLS_VERIFY ? path.resolve(env.DOCKER_CERT_PATH || docker) : "",
    configHome: env.XDG_CONFIG_HOME && path.isAbsolute(env.XDG_CONFIG_HOME) ? env.XDG_CONFIG_HOME : path.join(home, ".config"),
    runtime: env.ALIEN_RUNTIME || "",
    runtimeDir: env.XDG_RUNTIME_DIR || "",
    helper: helperPath(),
    commandsCaFile: env.ALIEN_COMMANDS_CA_FILE || "",
    kubeconfig: env.KUBECONFIG || "",
    homeKubeconfig: path.join(home, ".kube", "config"),
    kubernetesServiceHost: env.KUBERNETES_SERVICE_HOST || "",
    kubernetesServicePort: env.KUBERNETES_SERVICE_PORT || "",
    httpsProxy: env.HTTPS_PROXY || env.https_proxy || "",
    noProxy: env.NO_PROXY || env.no_proxy || "",
  }
}

const homeOf = (env) => env.HOME || os.homedir()

/** XDG Base Directory Specification, "state"; root's daemons are the machine's. Needs no addon. */
function stateDir(env = process.env) {
  if (env.ALIEN_STATE_DIR) return path.resolve(env.ALIEN_STATE_DIR)
  if (process.geteuid?.() === 0) return "/var/lib/alien"
  const base = env.XDG_STATE_HOME && path.isAbsolute(env.XDG_STATE_HOME) ? env.XDG_STATE_HOME : path.join(homeOf(env), ".local/state")
  return path.join(base, "alien")
}

module.exports = { defaults, stateDir }
