"use strict"

// Which manager of commands is meant, and with what token: that of the command line, else the one that runs on this
// machine, which keeps its address and its callers' tokens in the state directory.

const fs = require("node:fs")
const { UsageError } = require("./args.js")
const { engineOptions } = require("./options.js")
const stackFile = require("./stack-file.js")
const environment = require("../environment.js")
const { AlienError } = require("../errors.js")
const { adminToken, callerToken, callers } = require("../manager.js")

/** What a caller of commands needs: `{managerUrl, deploymentId, token}`. */
async function forCalls(options) {
  const given = token(options, "ALIEN_COMMANDS_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs a token: in ALIEN_COMMANDS_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, deploymentId: await named(options), token: given }
  }
  const dir = stateDir(options)
  const there = callers(dir)
  const deploymentId = await named(options, Object.keys(there.tokens))
  return { managerUrl: there.url, deploymentId, token: options["token-file"] === undefined ? callerToken(there, dir, deploymentId) : given }
}

/** What an administrator needs: `{managerUrl, token}`. */
function forAdmin(options) {
  const given = token(options, "ALIEN_COMMANDS_ADMIN_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs an administrator's token: in ALIEN_COMMANDS_ADMIN_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, token: given }
  }
  const dir = stateDir(options)
  return { managerUrl: callers(dir).url, token: given ?? adminToken(dir) }
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

/** The state directory of this machine's manager. */
function stateDir(options) {
  const { platform, local } = engineOptions(options)
  if (platform !== "local") throw new UsageError(`--platform ${platform} needs --manager URL`)
  return local.stateDir ?? environment.stateDir()
}

module.exports = { deployment: named, forAdmin, forCalls }
