"use strict"

// Where a receiver gets its commands and how it behaves: options, then the environment that a deployment sets.

const fs = require("node:fs")
const { CommandError } = require("./errors.js")

/** What a deployment tells its daemons, by option. */
const PLACES = {
  url: "ALIEN_COMMANDS_URL",
  deploymentId: "ALIEN_DEPLOYMENT_ID",
  resourceId: "ALIEN_COMMANDS_TARGET_RESOURCE_ID",
}

/** Numbers: variable, default, least and most. */
const NUMBERS = {
  concurrency: ["ALIEN_COMMANDS_MAX_LEASES", 1, 1, 1000],
  leaseSeconds: ["ALIEN_COMMANDS_LEASE_SECONDS", 60, 1, 3600],
  pollIntervalMs: ["ALIEN_COMMANDS_POLL_INTERVAL_MS", 5000, 1, 3_600_000],
  pollMaxIntervalMs: ["ALIEN_COMMANDS_POLL_MAX_INTERVAL_MS", 30_000, 1, 3_600_000],
  pollJitter: ["ALIEN_COMMANDS_POLL_JITTER", 0.1, 0, 1],
  drainTimeoutMs: ["ALIEN_COMMANDS_DRAIN_TIMEOUT_MS", 30_000, 0, 86_400_000],
  waitSeconds: [undefined, 20, 0, 60],
}
const WHOLE = ["concurrency", "leaseSeconds"]

/**
 * @param {import("./index.js").ReceiverOptions} [options]
 * @param {Record<string, string | undefined>} env
 * @throws {CommandError} `RECEIVER_NOT_CONFIGURED`, which lists all that is missing or wrong
 */
function settings(options = {}, env = process.env) {
  const wrong = []
  const its = { log: options.log ?? console.error, handleSignals: options.handleSignals ?? true }
  for (const [name, variable] of Object.entries(PLACES)) {
    its[name] = options[name] || env[variable]
    if (!its[name]) wrong.push(`${variable} is not set`)
  }
  its.caFile = options.caFile || env.ALIEN_COMMANDS_CA_FILE || undefined
  its.target = { resourceId: its.resourceId, resourceType: options.resourceType || env.ALIEN_COMMANDS_TARGET_RESOURCE_TYPE || "daemon" }
  for (const [name, [variable, fallback, least, most]] of Object.entries(NUMBERS)) {
    const given = options[name] ?? (env[variable]?.trim() || fallback)
    const value = Number(given)
    const fits = value >= least && value <= most && (!WHOLE.includes(name) || Number.isInteger(value))
    const what = options[name] === undefined ? variable : name
    if (!fits) wrong.push(`${what} is ${JSON.stringify(given)}, not a${WHOLE.includes(name) ? " whole" : ""} number from ${least} to ${most}`)
    its[name] = value
  }
  its.token = tokens(options, env)
  if (its.token === undefined) wrong.push("neither ALIEN_COMMANDS_TOKEN_FILE nor ALIEN_COMMANDS_TOKEN is set")
  if (wrong.length > 0) {
    throw new CommandError({
      code: "RECEIVER_NOT_CONFIGURED",
      message: `this process cannot take commands: ${wrong.join("; ")}`,
      hint: "a daemon gets these variables when it is deployed with .commandsEnabled(true); elsewhere, set them or give options",
      httpStatusCode: 400,
    })
  }
  return its
}

/** What reads the token; a file may be replaced while we run. */
function tokens(options, env) {
  const file = options.tokenFile || (options.token ? undefined : env.ALIEN_COMMANDS_TOKEN_FILE)
  const token = options.token || env.ALIEN_COMMANDS_TOKEN
  if (!file) return token ? () => token : undefined
  return () => {
    try {
      return fs.readFileSync(file, "utf8").trim()
    } catch (error) {
      if (token) return token
      throw new CommandError({ code: "TOKEN_FILE_UNREADABLE", message: `the token file ${file} cannot be read (${error.code})`, retryable: true })
    }
  }
}

module.exports = { settings }
