"use strict"

// Calls of handlers in daemons, from anywhere that reaches the manager.

const { randomUUID } = require("node:crypto")
const { INLINE_MAX, decode, form, inline, toSource, upload } = require("./body.js")
const { CommandError, misuse } = require("./errors.js")
const { Connection, Unreachable, isTransient, refusal, retryAfter } = require("./http.js")
const { collect } = require("./source.js")
const { Backoff, TIMER_MAX, now, pause } = require("./time.js")

const TIMEOUT_MS = 60_000
/** How long the manager is asked to hold an answer: proxies often end what is silent for a minute. */
const HOLD_MS = 25_000
const CALL_MS = 10_000
/** For the manager to look at what was brought: one that was started anew reads all of it. */
const COMPLETE_MS = 60_000
/** For the answer that the manager gives when a wait is over to arrive. */
const TRAVEL_MS = 500
const RETRY = [100, 2000]
/** How often a command is sent to a manager that does not answer: longer than one takes to start anew. */
const SENDINGS = 6
/** Between questions to a manager that holds no answers: the first pause, and the longest. */
const POLL = [500, 5000]
const SLOWER = 1.5
const ENDED = ["SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED"]

class CommandsClient {
  #connection
  #deploymentId
  #token
  #timeout

  constructor({ managerUrl, deploymentId, token, ca, caFile, headers, timeout = TIMEOUT_MS } = {}) {
    for (const [name, value] of Object.entries({ managerUrl, deploymentId, token })) {
      if (typeof value !== "string" || value === "") throw misuse(`new CommandsClient({…}) needs ${name}, a text`)
    }
    this.#connection = new Connection(managerUrl, ca === undefined ? caFile : Buffer.from(ca), headers)
    this.#deploymentId = deploymentId
    this.#token = token
    this.#timeout = milliseconds(timeout, "timeout")
  }

  target(id) {
    if (typeof id !== "string" || id === "") throw misuse("target(…) needs the id of a daemon")
    return {
      invoke: (name, params, options) => this.#invoke(id, name, params, options),
      submit: (name, params, options) => this.#submit(id, name, params, options),
      list: (options) => this.list({ ...options, target: id }),
    }
  }

  async invoke(name, params, options) {
    return this.#invoke(undefined, name, params, options)
  }

  async submit(name, params, options) {
    return this.#submit(undefined, name, params, options)
  }

  async get(id, { as, ...options } = {}) {
    const how = { as: form(as), signal: options.signal }
    return this.#told(await this.#ask("GET", place(id), `the question for ${id}`, options), how)
  }

  async cancel(id, options) {
    return this.#told(await this.#ask("POST", `${place(id)}/cancel`, `the cancellation of ${id}`, { ...options, json: {} }))
  }

  async list({ state, target, limit, cursor, ...options } = {}) {
    const query = new URLSearchParams({ deploymentId: this.#deploymentId })
    for (const [name, value] of Object.entries({ state, target, limit, cursor })) if (value !== undefined) query.set(name, String(value))
    const page = await this.#ask("GET", `v1/commands?${query}`, "the question for commands", options)
    return { ...page, commands: await Promise.all(page.commands.map((view) => this.#told(view))) }
  }

  /** Gives a command's state now and after each change, until it has ended. */
  async *watch(id, { signal, pollInterval = POLL[0], as } = {}) {
    const how = { as: form(as), signal }
    let last
    for (;;) {
      const view = await this.#hold(id, pollInterval, signal, now() + this.#timeout, (error) => error)
      if (ENDED.includes(view.state)) {
        yield await this.#told(view, how)
        return
      }
      const text = JSON.stringify(view)
      if (text !== last) yield await this.#told(view, how)
      last = text
      await pause(pollInterval / 2, signal)
      signal?.throwIfAborted()
    }
  }

  /** Closes connections that are kept; they keep no process alive. */
  close() {
    this.#connection.close()
  }

  async #submit(target, name, params, options) {
    const { view } = await this.#create(target, name, params, options, 0, this.#limit(options))
    return { commandId: view.commandId, state: view.state }
  }

  async #invoke(target, name, params, options = {}) {
    const { signal } = options
    const as = form(options.as)
    signal?.throwIfAborted()
    const limit = this.#limit(options)
    // What may be taken back has to be known first: then the waiting is an exchange of its own.
    const { view, ends } = await this.#create(target, name, params, options, signal === undefined ? limit : 0, limit)
    const id = view.commandId
    try {
      return await this.#result(name, await this.#end(view, ends, options, { name, limit }), { as, signal })
    } catch (error) {
      if (signal?.aborted) await this.cancel(id).catch(() => {})
      throw error
    }
  }

  #limit({ timeoutMs, timeout } = {}) {
    return milliseconds(timeoutMs ?? timeout ?? this.#timeout, timeoutMs === undefined ? "timeout" : "timeoutMs")
  }

  /**
   * Makes a command and brings its parameters; `hold` is how long the manager may wait for its end. Gives how it is then, and
   * when `limit` ms are over; bringing parameters takes none of them.
   */
  async #create(target, name, params, options = {}, hold, limit) {
    if (typeof name !== "string" || name === "") throw misuse("a command's name is a text")
    const deadline = moment(options.deadline)
    const source = parameters(name, params)
    const small = source.size <= INLINE_MAX ? (source.bytes ?? (await collect(source, INLINE_MAX))) : undefined
    let ends = now() + limit
    const body = small === undefined ? { mode: "storage", size: source.size } : inline(small)
    let view
    try {
      view = await this.#make(target, name, body, deadline, options, hold, ends)
    } catch (error) {
      source.discard(params)
      throw error
    }
    // One that was made before with the same key may have got its parameters then.
    if (view.state !== "PENDING_UPLOAD") {
      source.discard(params)
      return { view, ends }
    }
    try {
      const began = now()
      const size = await upload(view.storageUpload, source, { connection: this.#connection, signal: options.signal, token: () => this.#token })
      ends += now() - began
      view = { ...view, ...(await this.#complete(view.commandId, size, options.signal, Math.min(hold, HOLD_MS), ends)) }
    } catch (error) {
      // Nobody will bring them any more.
      await this.cancel(view.commandId).catch(() => {})
      if (error === options.signal?.reason || !(error instanceof CommandError) || error.code === "INVALID_ARGUMENT") throw error
      if (error.httpStatusCode === 413) throw tooLarge(name, body, error)
      throw notCreated(name, { idempotencyKey: options.idempotencyKey, targetResourceId: target }, error)
    }
    return { view, ends }
  }

  /** Says that the parameters are there. Saying it twice is as good as once. */
  async #complete(id, size, signal, hold, ends) {
    const query = hold > 0 ? `?wait=${(hold / 1000).toFixed(3)}` : ""
    const how = { token: this.#token, json: { size }, signal, timeoutMs: COMPLETE_MS + hold }
    return insist(() => this.#connection.call("POST", `${place(id)}/upload-complete${query}`, how), {
      what: `that the parameters of ${id} are there`,
      taken: ({ status, json }) => (status < 300 ? (json ?? { state: "PENDING" }) : undefined),
      ends,
      signal,
    })
  }

  /** Sent again when no answer comes: the idempotency key makes one command of all sendings. */
  async #make(target, name, params, deadline, options, hold, ends) {
    const json = {
      deploymentId: this.#deploymentId,
      command: name,
      params,
      deadline,
      idempotencyKey: options.idempotencyKey ?? newKey(),
      targetResourceId: target,
    }
    const headers = {}
    for (const trace of ["traceparent", "tracestate"]) if (options[trace] !== undefined) headers[trace] = options[trace]
    const send = () => {
      const left = Math.max(0, ends - now())
      const holdMs = Math.min(hold, HOLD_MS, left)
      const query = holdMs > 0 ? `?wait=${(holdMs / 1000).toFixed(3)}` : ""
      return this.#connection.call("POST", `v1/commands${query}`, { token: this.#token, json, headers, timeoutMs: Math.min(CALL_MS + holdMs, left + TRAVEL_MS) })
    }
    return insist(send, {
      what: `the command "${name}"`,
      taken: ({ status, json }) => (status < 300 && typeof json?.commandId === "string" ? json : undefined),
      refused: (error, answer) => {
        if (answer.json?.code === "COMMAND_EXPIRED") return expired(name, {})
        return answer.status === 413 ? tooLarge(name, params, error) : notCreated(name, json, error)
      },
      late: (error) => notCreated(name, json, error),
      most: SENDINGS,
      ends,
      signal: options.signal,
    })
  }

  /** Waits until a command has ended. */
  async #end(view, ends, { signal, pollInterval = POLL[0] }, about) {
    let interval = pollInterval
    while (!ENDED.includes(view.state)) {
      if (now() >= ends) throw timedOut(view, about)
      const began = now()
      const hold = Math.min(HOLD_MS, ends - began)
      const known = view
      view = await this.#hold(view.commandId, hold, signal, ends, () => timedOut(known, about))
      // A manager of the plain protocol answers at once.
      if (!ENDED.includes(view.state) && now() - began < hold / 2) {
        await pause(Math.min(interval, Math.max(0, ends - now())), signal)
        signal?.throwIfAborted()
        interval = Math.min(interval * SLOWER, Math.max(pollInterval, POLL[1]))
      }
    }
    return view
  }

  /** A command as it is when it ends, or after `hold` ms; `late` gives the error where no answer has come by `ends`. */
  async #hold(id, hold, signal, ends, late) {
    const path = `${place(id)}?wait=${(hold / 1000).toFixed(3)}`
    const send = () => {
      const timeoutMs = Math.min(CALL_MS + hold, Math.max(0, ends - now()) + TRAVEL_MS)
      return this.#connection.call("GET", path, { token: this.#token, signal, timeoutMs })
    }
    const taken = ({ status, json }) => (status === 200 ? json : undefined)
    return insist(send, { what: `the question for ${id}`, taken, late, ends, signal })
  }

  async #ask(method, path, what, { signal, json, timeoutMs = CALL_MS } = {}) {
    const answer = await this.#connection.call(method, path, { token: this.#token, json, signal, timeoutMs: milliseconds(timeoutMs, "timeoutMs") })
    if (answer.status >= 300 || answer.json === undefined) throw refusal(what, answer)
    return answer.json
  }

  /** A command as it is told to the caller: with its result, or its error, in place of the protocol's response. */
  async #told({ response, ...view }, { as = "json", signal } = {}) {
    if (response === undefined || response === null) return view
    if (response.status === "error") {
      const { status, ...error } = response
      return { ...view, error }
    }
    return { ...view, result: await this.#decode(view.command ?? view.commandId, view.commandId, response.response, { as, signal }) }
  }

  async #decode(name, id, body, { as, signal }) {
    // Its address is good for an hour; the command gives another.
    const renew = async () => (await this.#ask("GET", place(id), `the question for ${id}`, { signal })).response.response
    try {
      return await decode(body, as, { connection: this.#connection, signal, token: () => this.#token, renew })
    } catch (source) {
      if (signal?.aborted) throw signal.reason
      const hint = as === "json" && source.code === "BODY_INVALID" ? 'a result that is no JSON is had with { as: "bytes" } or { as: "stream" }' : undefined
      throw new CommandError({ code: "RESPONSE_DECODING_FAILED", message: `the result of "${name}" cannot be read: ${source.message}`, hint, source })
    }
  }

  async #result(name, { commandId, state, response, attempt }, how) {
    const context = { commandId, command: name, state, attempt }
    if (state === "SUCCEEDED") return this.#decode(name, commandId, response?.response, how)
    if (state === "EXPIRED") throw expired(name, context)
    if (state === "CANCELLED") throw new CommandError({ code: "COMMAND_CANCELLED", message: `"${name}" (${commandId}) was cancelled`, context, httpStatusCode: 409 })
    const { code = "UNKNOWN", message = "it does not say why", details } = response ?? {}
    const failed = { ...context, errorCode: code, errorMessage: message, ...(details === undefined ? {} : { errorDetails: details }) }
    throw new CommandError({ code: "DEPLOYMENT_COMMAND_ERROR", message: `"${name}" (${commandId}) failed: ${code}: ${message}`, context: failed, httpStatusCode: 502 })
  }
}

/**
 * Sends a call until the manager has taken it: one that is away or busy is asked again, ever more slowly, until `ends`.
 *
 * @param {() => Promise<object>} send makes the call once
 * @param {object} how
 * @param {string} how.what the call, in the words of errors
 * @param {(answer: object) => unknown} how.taken what is wanted of an answer; undefined where it is a refusal
 * @param {(error: Error, answer: object) => Error} [how.refused] what is thrown for an answer that asking again does not change
 * @param {(error: Error) => Error} [how.late] what is thrown when there is no more time, or it was sent `most` times
 */
async function insist(send, { what, taken, refused = (error) => error, late = (error) => error, ends, signal, most = Infinity }) {
  const backoff = new Backoff(...RETRY)
  for (let sendings = 1; ; sendings++) {
    let error
    let after = 0
    try {
      const answer = await send()
      const wanted = taken(answer)
      if (wanted !== undefined) return wanted
      error = refusal(what, answer)
      if (!isTransient(answer)) throw refused(error, answer)
      after = retryAfter(answer) ?? 0
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown
      error = thrown
    }
    const delay = Math.max(backoff.next(), after)
    if (sendings === most || now() + delay > ends) throw late(error)
    await pause(delay, signal)
    signal?.throwIfAborted()
  }
}

const place = (id) => {
  if (typeof id !== "string" || id === "") throw misuse("a command is named by its id, such as cmd_…")
  return `v1/commands/${encodeURIComponent(id)}`
}

function parameters(name, params) {
  try {
    return toSource(params)
  } catch (error) {
    throw misuse(`the parameters of "${name}" cannot be JSON: ${error.message}`)
  }
}

function tooLarge(name, { size }, source) {
  return new CommandError({
    code: "PARAMS_TOO_LARGE",
    message: `the parameters of "${name}" are too large: ${source.message}`,
    context: { ...(size === undefined ? {} : { bytes: size }), ...source.context },
    httpStatusCode: 413,
    source,
  })
}

/** A Date or an RFC 3339 time, as the latter. */
function moment(deadline) {
  if (deadline === undefined) return undefined
  const time = new Date(deadline)
  if (Number.isNaN(time.getTime())) throw misuse(`a deadline is a Date or an RFC 3339 time, not ${JSON.stringify(deadline)}`)
  return time.toISOString()
}

/** Keys that begin with the time stand side by side where a manager keeps them, and cost it less than scattered ones. */
function newKey() {
  return `${Date.now().toString(36)}-${randomUUID()}`
}

function milliseconds(value, name) {
  if (typeof value === "number" && value > 0 && value <= TIMER_MAX) return value
  throw misuse(`${name} is a number of milliseconds from 1 to ${TIMER_MAX}, not ${JSON.stringify(value)}`)
}

function notCreated(name, { idempotencyKey, targetResourceId }, source) {
  return new CommandError({
    code: "COMMAND_CREATION_FAILED",
    message: `the command "${name}" was not taken: ${source.message}`,
    context: { command: name, ...(targetResourceId === undefined ? {} : { target: targetResourceId }), idempotencyKey, ...source.context },
    hint: source.hint ?? (source.retryable ? "send it again with the same idempotencyKey: it is done once, however often it is sent" : undefined),
    retryable: source.retryable,
    httpStatusCode: source.httpStatusCode,
    source,
  })
}

function expired(name, { commandId, ...context }) {
  const which = commandId === undefined ? "" : ` (${commandId})`
  const message = `the deadline of "${name}"${which} passed before there was a result`
  const known = { ...(commandId === undefined ? {} : { commandId }), command: name, ...context }
  return new CommandError({ code: "COMMAND_EXPIRED", message, context: known, httpStatusCode: 410 })
}

function timedOut({ commandId, state, attempt }, { name, limit }) {
  return new CommandError({
    code: "COMMAND_TIMEOUT",
    message: `"${name}" (${commandId}) has no result after ${limit / 1000} s; it is ${state}`,
    context: { commandId, command: name, lastState: state, attempt, timeoutMs: limit },
    hint: "it goes on: ask for it with get(commandId), or take it back with cancel(commandId)",
    retryable: true,
    httpStatusCode: 504,
  })
}

module.exports = { CommandsClient }
