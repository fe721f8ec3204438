"use strict"

// `alien commands`: calling handlers in daemons, and seeing what becomes of that.

const { readAll, source, write } = require("./bytes.js")
const { UsageError, duration, number, timeoutMs } = require("./args.js")
const { forCalls } = require("./manager.js")
const { paint } = require("./paint.js")
const { line, padded } = require("./table.js")
const { choose } = require("./words.js")
const { AlienError } = require("../errors.js")
const { CommandsClient } = require("../commands/client.js")

const SENDING = ["params", "raw", "deadline", "idempotency-key"]
const OUTPUT = ["output"]
const LISTING = ["state", "target", "limit", "cursor"]
const KNOWN = {
  invoke: { words: ["ID", "NAME"], options: [...SENDING, ...OUTPUT] },
  submit: { words: ["ID", "NAME"], options: SENDING },
  get: { words: ["COMMAND"], options: OUTPUT },
  list: { options: LISTING },
  cancel: { words: ["COMMAND"] },
  watch: { words: ["COMMAND"] },
}
const COLOURS = { SUCCEEDED: "green", FAILED: "red", EXPIRED: "red", CANCELLED: "yellow" }

async function commands({ words: all, options, signal }) {
  const { name, words } = choose("commands", KNOWN, [...SENDING, ...OUTPUT, ...LISTING], all, options)
  const run = { invoke, submit, get, list, cancel, watch }[name]
  const how = { signal, timeoutMs: timeoutMs(options) }
  // What is wrong with the command line is said before anybody is asked.
  const sends = KNOWN[name].options?.includes("params")
  const sending = sends ? { ...how, ...sendingOptions(options) } : undefined
  if (options.output === "-" && options.json) throw new UsageError("--output - and --json both go to standard output: leave one out")
  const params = sends ? await parameters(options) : undefined
  const manager = await forCalls(options, signal)
  const client = new CommandsClient(manager)
  try {
    return await run(client, words, { options, how, sending, params })
  } catch (error) {
    // The library's hint is for programs.
    if (isNoJson(error)) error.hint = "--output FILE writes it as it is"
    throw error
  } finally {
    client.close()
    manager.close()
  }
}

async function invoke(client, [id, name], { options, sending, params }) {
  const as = options.output === undefined ? "json" : "stream"
  const result = await client.target(id).invoke(name, params, { ...sending, as })
  if (as === "json") print(result, options)
  else await keep(result, options, sending.signal)
  return 0
}

async function submit(client, [id, name], { options, sending, params }) {
  const submitted = await client.target(id).submit(name, params, sending)
  console.log(options.json ? JSON.stringify(submitted) : submitted.commandId)
  return 0
}

async function get(client, [id], { options, how }) {
  if (options.output === undefined) {
    print(await client.get(id, how), options)
    return 0
  }
  const { state, result } = await client.get(id, { ...how, as: "stream" })
  if (result === undefined) {
    const hint = state === "FAILED" ? `\`alien commands get ${id}\` shows its error` : undefined
    throw new AlienError({ code: "NO_RESULT", message: `${id} is ${state} and has no result`, hint, httpStatusCode: 404, retryable: false, internal: false })
  }
  await keep(result, options, how.signal)
  return 0
}

async function cancel(client, [id], { options, how }) {
  const view = await client.cancel(id, how)
  if (options.json) print(view, options)
  else console.error(`${id} is ${view.state}.`)
  return 0
}

async function list(client, _, { options, how }) {
  const { state, target, cursor } = options
  const page = await client.list({ state, target, cursor, limit: number(options.limit, "limit"), ...how })
  if (options.json) {
    print(page, options)
    return 0
  }
  const cells = ({ commandId, state, command, target, attempt, createdAt }) => [commandId, state, target.resourceId, command, String(attempt), createdAt]
  const rows = padded([["COMMAND", "STATE", "ID", "NAME", "ATTEMPT", "CREATED"], ...page.commands.map(cells)])
  rows.forEach((row, index) => {
    const style = index > 0 ? COLOURS[page.commands[index - 1].state] : undefined
    // Padded before it is painted: colours have no width.
    if (style !== undefined) row[1] = paint(process.stdout, style, row[1])
    console.log(line(row))
  })
  if (page.cursor !== undefined) console.error(`There are more: --cursor ${page.cursor}`)
  return 0
}

async function watch(client, [id], { options, how: { signal, timeoutMs } }) {
  const end = new AbortController()
  signal.addEventListener("abort", () => end.abort(signal.reason))
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => end.abort(), timeoutMs)
  let last
  try {
    for await (last of client.watch(id, { signal: end.signal })) {
      if (options.json) console.log(JSON.stringify(last))
      else console.error(`${last.state}, attempt ${last.attempt}${last.progress === undefined ? "" : `: ${JSON.stringify(last.progress)}`}`)
    }
  } catch (error) {
    // Watching ends with Ctrl-C; that is no failure.
    if (signal.aborted) return 0
    if (isNoJson(error)) {
      console.error(`SUCCEEDED; its result is no JSON: \`alien commands get ${id} --output FILE\` writes it`)
      return 0
    }
    if (!end.signal.aborted) throw error
    const message = `${id} has not ended within ${options.timeout} s${last === undefined ? "" : `; it is ${last.state}`}`
    throw new AlienError({ code: "TIMEOUT", message, retryable: true, httpStatusCode: 504 })
  } finally {
    clearTimeout(timer)
  }
  if (!options.json && last.state === "SUCCEEDED") print(last.result, options)
  if (!options.json && last.error !== undefined) console.error(`${paint(process.stderr, "red", "error:")} ${last.error.code}: ${last.error.message}`)
  return last.state === "SUCCEEDED" ? 0 : 1
}

/** Whether a command has succeeded with a result that is no JSON. */
function isNoJson({ code, source }) {
  return code === "RESPONSE_DECODING_FAILED" && source.code === "BODY_INVALID"
}

/** Writes a result where `--output` says. */
async function keep(result, { output, json }, signal) {
  const bytes = await write(result, output, signal)
  if (json) console.log(JSON.stringify({ output, bytes }))
  else if (output !== "-") console.error(`${bytes} bytes are in ${output}.`)
}

/** JSON for a person, or for a program. */
function print(value, { json }) {
  console.log(json ? JSON.stringify(value) : JSON.stringify(value, null, 2))
}

function sendingOptions(options) {
  return { deadline: deadline(options.deadline), idempotencyKey: options["idempotency-key"] }
}

/** `30s` from now, or a time. */
function deadline(text) {
  if (text === undefined) return undefined
  const after = duration(text)
  const time = after === undefined ? Date.parse(text) : Date.now() + after
  if (Number.isNaN(time)) throw new UsageError(`--deadline takes 10s, 5m, 2h, 1d or an RFC 3339 time, not ${JSON.stringify(text)}`)
  return new Date(time)
}

/** JSON itself, `@FILE`, or `-` for standard input; with `--raw` bytes, whatever they are. */
async function parameters({ params: given, raw }) {
  if (raw) {
    if (given === undefined) throw new UsageError("--raw says what --params are: name some, such as --params @FILE")
    return source(given)
  }
  if (given === undefined) return undefined
  const file = given.startsWith("@") ? given.slice(1) : undefined
  const name = given === "-" ? "standard input" : (file ?? "that")
  const text = given === "-" || file !== undefined ? (await readAll(file, "params")).toString() : given
  try {
    return JSON.parse(text)
  } catch {
    // Node's words quote the text, which may be secret.
    throw new UsageError(`--params: ${name} is not JSON, such as '{"since":"2026-05-01"}'`)
  }
}

module.exports = { commands }
