"use strict"

// Which manager of commands is meant, and with what token: that of the command line, else the deployment's own, on this
// machine or in the cluster.

const fs = require("node:fs")
const { UsageError } = require("./args.js")
const { engineOptions } = require("./options.js")
const stackFile = require("./stack-file.js")
const environment = require("../environment.js")
const { AlienError } = require("../errors.js")
const { forAdministrators, forCallers, known } = require("../manager.js")

/** What a caller of commands needs: `{managerUrl, deploymentId, token, close}`. */
async function forCalls(options, signal) {
  const given = token(options, "ALIEN_COMMANDS_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs a token: in ALIEN_COMMANDS_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, deploymentId: await named(options), token: given, caFile: caFile(options), close() {} }
  }
  const call = where(options)
  const name = await named(options, () => candidates(call))
  const there = await forCallers({ ...call, name }, { signal }, forCalls)
  return options["token-file"] === undefined ? there : { ...there, token: given }
}

/** What an administrator needs: `{managerUrl, token, close}`. */
async function forAdmin(options, signal) {
  const given = token(options, "ALIEN_COMMANDS_ADMIN_TOKEN")
  if (options.manager !== undefined) {
    if (given === undefined) throw new UsageError("--manager needs an administrator's token: in ALIEN_COMMANDS_ADMIN_TOKEN, or in a file that --token-file names")
    return { managerUrl: options.manager, token: given, caFile: caFile(options), close() {} }
  }
  const there = await forAdministrators(where(options), { signal }, forAdmin)
  return given === undefined ? there : { ...there, token: given }
}

/** The engine's options, on a platform that has managers. */
function where(options) {
  const call = engineOptions(options)
  if (!["local", "kubernetes"].includes(call.platform)) throw new UsageError(`--platform ${call.platform} needs --manager URL`)
  return call
}

/** The deployments that may be meant where none is named. */
async function candidates({ platform, local, ...call }) {
  if (platform === "local") return known(local.stateDir ?? environment.stateDir())
  return require("../engine.js").deployments({ platform, local, ...call })
}

/** The deployment: named, the stack's, or the only one there is. */
async function named(options, candidates = () => []) {
  if (options.name !== undefined) return options.name
  if (stackFile.find(options.file) !== undefined) return (await stackFile.load(options.file, { cached: true })).id
  const names = await candidates()
  if (names.length === 1) return names[0]
  const there = names.length === 0 ? "" : `; there is: ${names.join(", ")}`
  throw new AlienError({
    code: "DEPLOYMENT_NOT_NAMED",
    message: `which deployment? There is no stack file in ${process.cwd()} to say${there}`,
    hint: "name it with --name, or name the stack file with --file",
    httpStatusCode: 400,
  })
}

/** The certificates that the manager's own is signed with, where Node does not know them. */
const caFile = (options) => options["manager-ca-file"] ?? (process.env.ALIEN_COMMANDS_CA_FILE || undefined)

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

/** `--manager`, as an option of the engine's calls that deploy; undefined where it is not given. */
function external(options) {
  if (options.manager === undefined) {
    for (const name of ["token-file", "manager-ca-file"]) if (options[name] !== undefined) throw new UsageError(`--${name} goes with --manager URL`)
    return undefined
  }
  const given = token(options, "ALIEN_COMMANDS_ADMIN_TOKEN")
  if (given === undefined) throw new UsageError("--manager needs an administrator's token: in ALIEN_COMMANDS_ADMIN_TOKEN, or in a file that --token-file names")
  return { url: options.manager, token: given, caFile: options["manager-ca-file"] }
}

module.exports = { deployment: named, external, forAdmin, forCalls }
