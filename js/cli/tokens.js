"use strict"

// `alien token`: who may send and take commands.

const { UsageError, number, timeoutMs } = require("./args.js")
const { deployment, forAdmin } = require("./manager.js")
const { line, padded } = require("./table.js")
const { choose } = require("./words.js")
const { Connection, refusal } = require("../commands/http.js")

const MAKING = ["role", "resource", "ttl"]
const KNOWN = { create: { options: MAKING }, list: {}, revoke: { words: ["TOKEN"] } }
const ROLES = ["invoke", "receive", "admin"]
const CALL_MS = 10_000

async function token({ words: all, options, signal }) {
  const { name, words } = choose("token", KNOWN, MAKING, all, options)
  const wanted = name === "create" ? await asked(options) : undefined
  const { managerUrl, token, caFile, close } = await forAdmin(options, signal)
  const connection = new Connection(managerUrl, caFile)
  const limit = timeoutMs(options) ?? CALL_MS
  const call = async (method, path, json) => {
    const answer = await connection.call(method, path, { token, json, signal, timeoutMs: limit })
    if (answer.status >= 300) throw refusal(`\`alien token ${name}\``, answer)
    return answer.json
  }
  try {
    return await { create, list, revoke }[name](call, words, options, wanted)
  } finally {
    connection.close()
    close()
  }
}

/** What kind of token is wanted, as the manager takes it. */
async function asked(options) {
  const { role, resource } = options
  if (!ROLES.includes(role)) throw new UsageError(`token create needs --role ${ROLES.join("|")}`)
  if (role === "receive" && resource === undefined) throw new UsageError("a token to receive is for one daemon: --resource ID")
  if (role !== "receive" && resource !== undefined) throw new UsageError(`a token with the role ${role} is for every daemon: leave out --resource`)
  const ttl = number(options.ttl, "ttl")
  if (ttl !== undefined && (!Number.isInteger(ttl) || ttl === 0)) throw new UsageError(`--ttl takes whole seconds, not ${JSON.stringify(options.ttl)}`)
  return { role, deploymentId: role === "admin" ? undefined : await deployment(options), resourceId: resource, expiresInSeconds: ttl }
}

async function create(call, _, { json }, wanted) {
  const made = await call("POST", "v1/tokens", wanted)
  if (json) console.log(JSON.stringify(made))
  else {
    console.log(made.token)
    console.error(`Its id is ${made.id}${made.expiresAt === undefined ? "" : `; it expires at ${made.expiresAt}`}. The token is shown this once only.`)
  }
  return 0
}

async function list(call, _, { json }) {
  const answer = await call("GET", "v1/tokens")
  if (json) {
    console.log(JSON.stringify(answer))
    return 0
  }
  const cells = ({ id, role, deploymentId, resourceId, createdAt, expiresAt }) => [id, role, deploymentId ?? "-", resourceId ?? "-", createdAt, expiresAt ?? "never"]
  const rows = [["TOKEN", "ROLE", "DEPLOYMENT", "ID", "CREATED", "EXPIRES"], ...answer.tokens.map(cells)]
  for (const row of padded(rows)) console.log(line(row))
  return 0
}

async function revoke(call, [id], { json }) {
  await call("DELETE", `v1/tokens/${encodeURIComponent(id)}`)
  if (json) console.log(JSON.stringify({ id, revoked: true }))
  else console.error(`${id} is revoked.`)
  return 0
}

module.exports = { token }
