"use strict"

// Which manager of commands is meant, and with what token: that of the command line, else the one that runs on this
// machine, which keeps its address and its callers' tokens in the state directory.

const fs = require("node:fs")
const path = require("node:path")
const { UsageError } = require("./args.js")
const { engineOptions } = require("./options.js")
const stackFile = require("./stack-file.js")
const { defaults } = require("../environment.js")
const { AlienError } = require("../errors.js")

/** What a caller of commands needs: `{managerUrl, deploymentId, token}`. */
async function forCalls(options) {
  const given = token(options, "ALIEN_COMMANDS_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs a token: in ALIEN_COMMANDS_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, deploymentId: await named(options), token: given }
  }
  const { dir, url, tokens } = local(options)
  const deploymentId = await named(options, Object.keys(tokens))
  const kept = options["token-file"] === undefined ? tokens[deploymentId] : given
  if (kept !== undefined) return { managerUrl: url, deploymentId, token: kept }
  const known = Object.keys(tokens).map((name) => `"${name}"`).join(", ")
  throw notFound(`no daemon of deployment "${deploymentId}" in ${dir} takes commands${known ? `; those of ${known} do` : ""}`, "a daemon takes commands with .commandsEnabled(true); then deploy")
}

/** What an administrator needs: `{managerUrl, token}`. */
function forAdmin(options) {
  const given = token(options, "ALIEN_COMMANDS_ADMIN_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs an administrator's token: in ALIEN_COMMANDS_ADMIN_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, token: given }
  }
  const { dir, url } = local(options)
  return { managerUrl: url, token: given ?? read(path.join(dir, "manager/admin.token")).trim() }
}

/** The deployment: named, the stack's, or the only one there is. */
async function named(options, known = []) {
  if (options.name !== undefined) return options.name
  if (stackFile.find(options.file) !== undefined) return (await stackFile.load(options.file)).id
  if (known.length === 1) return known[0]
  const there = known.length === 0 ? "" : `; there is: ${known.join(", ")}`
  throw new AlienError({
    code: "DEPLOYMENT_NOT_NAMED",
    message: `which deployment? There is no stack file in ${process.cwd()} to say${there}`,
    hint: "name it with --name, or name the stack file with --file",
    httpStatusCode: 400,
  })
}

/** From a file, or a variable of the environment: on the command line any user could see it. */
function token(options, variable) {
  const file = options["token-file"]
  if (file === undefined) return process.env[variable] || undefined
  try {
    return fs.readFileSync(file, "utf8").trim()
  } catch (error) {
    throw new UsageError(`--token-file: ${file} cannot be read (${error.code})`)
  }
}

/** The manager of this machine: `{dir, url, tokens}`. */
function local(options) {
  const { platform, local } = engineOptions(options)
  if (platform !== "local") throw new UsageError(`--platform ${platform} needs --manager URL`)
  const dir = local.stateDir ?? defaults().stateDir
  const file = path.join(dir, "manager/client.json")
  try {
    const { url, tokens = {} } = JSON.parse(read(file))
    if (typeof url === "string") return { dir, url, tokens }
  } catch (error) {
    // Node's words on what is wrong with JSON quote it, and it holds tokens.
    if (error instanceof AlienError) throw error
  }
  throw notFound(`${file} is not what a manager writes`, "deploy again, which writes it anew")
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
  return new AlienError({ code: "MANAGER_NOT_FOUND", message, hint, httpStatusCode: 404 })
}

module.exports = { deployment: named, forAdmin, forCalls }
