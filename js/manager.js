"use strict"

// The manager of commands of a deployment, and what lets one in. On this machine both are in the state directory
// (src/local/commands.rs), in a cluster in Secrets (src/kubernetes/commands.rs).

const fs = require("node:fs")
const path = require("node:path")
const { AlienError } = require("./errors.js")

/** What the API server carries comes to the manager as it speaks, and began as plain HTTP on loopback. */
const FORWARDED = { "x-forwarded-proto": "http" }

/**
 * What a caller of a deployment's commands needs.
 *
 * @param {object} options the engine's, with the deployment's name
 * @param {{signal?: AbortSignal}} how
 * @param {Function} top the public function that was called; it must not have awaited anything yet
 * @returns {Promise<{managerUrl: string, deploymentId: string, token: string, ca?: string, headers?: object, close: () => void}>}
 * @throws {AlienError} `MANAGER_NOT_FOUND`
 */
async function forCallers(options, how, top) {
  const { platform = "local", local, name } = options
  if (platform === "local") return callerOf(local?.stateDir ?? require("./environment.js").stateDir(), name)
  const { url, token, deploymentId, ca, close } = await require("./way.js").openWay(options, how, top)
  return { managerUrl: url, deploymentId, token, ca: ca ?? undefined, headers: FORWARDED, close }
}

/**
 * What an administrator needs of the manager that deploys use without being told of another.
 *
 * @returns {Promise<{managerUrl: string, token: string, close: () => void}>}
 * @throws {AlienError} `MANAGER_NOT_FOUND`, `MANAGER_NOT_INSTALLED`
 */
async function forAdministrators(options, how, top) {
  const { platform = "local", local } = options
  if (platform === "local") {
    const dir = local?.stateDir ?? require("./environment.js").stateDir()
    const { url, file } = callers(dir)
    if (url === undefined) throw notFound(`${file} names no manager of this machine`, "name another with --manager URL")
    return { managerUrl: url, token: read(path.join(dir, "manager/data/admin.token")).trim(), close() {} }
  }
  const { url, token, close } = await require("./way.js").openWay(options, { ...how, admin: true }, top)
  return { managerUrl: url, token, close }
}

/** The deployments of this machine that one can call into. */
function known(dir) {
  const { tokens, external } = callers(dir)
  return [...Object.keys(tokens), ...Object.keys(external)]
}

/**
 * What is kept for callers: the address of this machine's manager with its tokens by deployment, and what is known of
 * managers elsewhere, by deployment.
 */
function callers(dir) {
  const file = path.join(dir, "manager/client.json")
  try {
    const { url, tokens = {}, external = {} } = JSON.parse(read(file))
    if (typeof url === "string" || Object.keys(external).length > 0) return { file, url, tokens, external }
  } catch (error) {
    // Node's words on what is wrong with JSON quote it, and it holds tokens.
    if (error instanceof AlienError) throw error
  }
  throw notFound(`${file} is not what a manager writes`, "deploy again, which writes it anew")
}

/** How one calls into a deployment of this machine. */
function callerOf(dir, deployment) {
  const { url, tokens, external } = callers(dir)
  const elsewhere = external[deployment]
  if (elsewhere !== undefined) return { managerUrl: elsewhere.url, deploymentId: elsewhere.deploymentId, token: elsewhere.token, ca: elsewhere.ca, close() {} }
  if (url !== undefined && tokens[deployment] !== undefined) return { managerUrl: url, deploymentId: deployment, token: tokens[deployment], close() {} }
  const others = known(dir).map((name) => `"${name}"`).join(", ")
  throw notFound(`no daemon of deployment "${deployment}" in ${dir} takes commands${others ? `; those of ${others} do` : ""}`, "a daemon takes commands with .commandsEnabled(true); then deploy")
}

function read(file) {
  try {
    return fs.readFileSync(file, "utf8")
  } catch (error) {
    if (error.code === "ENOENT") {
      throw notFound(`no manager of commands runs here: there is no ${file}`, "deploy a daemon with .commandsEnabled(true), which starts one, or name another with --manager URL")
    }
    throw notFound(`${file} cannot be read (${error.code})`, "it belongs to whoever deployed")
  }
}

function notFound(message, hint) {
  return new AlienError({ code: "MANAGER_NOT_FOUND", message, hint, httpStatusCode: 404, retryable: false, internal: false })
}

module.exports = { forAdministrators, forCallers, known }
