"use strict"

// The manager of commands that deploys start on this machine: its address and its callers' tokens are in the state
// directory (src/local/commands.rs).

const fs = require("node:fs")
const path = require("node:path")
const { AlienError } = require("./errors.js")

/**
 * @param {string} dir the state directory
 * @returns {{url: string, tokens: Record<string, string>}} tokens by deployment
 * @throws {AlienError} `MANAGER_NOT_FOUND`
 */
function callers(dir) {
  const file = path.join(dir, "manager/client.json")
  try {
    const { url, tokens = {} } = JSON.parse(read(file))
    if (typeof url === "string") return { url, tokens }
  } catch (error) {
    // Node's words on what is wrong with JSON quote it, and it holds tokens.
    if (error instanceof AlienError) throw error
  }
  throw notFound(`${file} is not what a manager writes`, "deploy again, which writes it anew")
}

/** The token with which one calls into a deployment. */
function callerToken({ tokens }, dir, deployment) {
  if (tokens[deployment] !== undefined) return tokens[deployment]
  const known = Object.keys(tokens).map((name) => `"${name}"`).join(", ")
  throw notFound(`no daemon of deployment "${deployment}" in ${dir} takes commands${known ? `; those of ${known} do` : ""}`, "a daemon takes commands with .commandsEnabled(true); then deploy")
}

/** The token that may do everything. */
function adminToken(dir) {
  return read(path.join(dir, "manager/data/admin.token")).trim()
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

module.exports = { adminToken, callerToken, callers }
