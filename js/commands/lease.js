"use strict"

// One command that was handed to us: its handler runs, its lease is kept, its result is given back.
//
// A handler's time ends with the command's deadline and, where the lease cannot be renewed, shortly before the lease does.
// Whoever holds no lease any more answers nothing: the command is somebody else's.

const { INLINE_MAX, decode, encode, inline, toSource, upload } = require("./body.js")
const { Ending } = require("./ending.js")
const { CommandError } = require("./errors.js")
const { isTransient } = require("./http.js")
const { collect } = require("./source.js")
const { Backoff, TIMER_MAX, now, pause } = require("./time.js")

/** What is left of a lease, at most, when its handler's time is up: for the answer. */
const MARGIN_MS = 5000
/** A lease in parts: one until it is renewed, one until that is known, one to try again, one for the answer. */
const PARTS = 4
/** Handlers that are done sooner never cost a renewal. */
const FIRST_RENEWAL_MS = 500
const RENEWAL_WAIT_SECONDS = 20
const RETRY = [100, 5000]
const PROGRESS_MAX = 4096
const SAME_MOMENT_MS = 100
/** Nobody looks at it; without one, each abort makes an error with a stack. */
const OVER = "over"
/** What a manager takes of an error, in bytes. */
const CODE_MAX = 128
const MESSAGE_MAX = 16_384
/** Of these the code alone is logged: what is wrong with parameters may quote them, and goes to the caller alone. */
const QUIET = ["UNKNOWN_COMMAND", "INVALID_PARAMS"]
/** For a handler to end that was told that the process does. */
const LAST_WORDS_MS = 1000

class Lease {
  #manager
  #its
  #lease
  /** The end of the handler's time. */
  #ending = new Ending()
  /** Ends what is done beside the handler, once that is over. */
  #over = new Ending()
  /** Aborts when the process is about to end. */
  #stopped
  #length
  #part
  #ends
  #renewable = true
  #timer
  #renewal
  #progress

  /**
   * @param {import("./manager.js").Manager} manager
   * @param {object} its the receiver's settings
   * @param {object} lease as the manager gave it
   * @param {AbortSignal} stopped aborts before {@link stop} is called
   */
  constructor(manager, its, lease, stopped) {
    this.#manager = manager
    this.#its = its
    this.#lease = lease
    this.#stopped = stopped
    this.#length = its.leaseSeconds * 1000
    this.#part = this.#length / PARTS
    this.#ends = now() + this.#length
  }

  /** Runs the handler and gives its result back. Never throws. */
  async run(handlers) {
    const { envelope, commandId } = this.#lease
    this.#limit()
    this.#renewal = setTimeout(() => this.#keep(), Math.min(FIRST_RENEWAL_MS, this.#part))
    const handling = this.#handle(handlers)
    let response
    try {
      response = await this.#ending.unless(handling)
    } catch (error) {
      response = failure(error)
      if (error !== this.#ending.reason) this.#log(`"${envelope.command}" (${commandId}) failed: ${QUIET.includes(response.code) ? response.code : (error?.stack ?? text(error))}`)
    } finally {
      clearTimeout(this.#timer)
      clearTimeout(this.#renewal)
      this.#over.abort(OVER)
    }
    const { reason } = this.#ending
    if (reason === undefined || reason.code === "HANDLER_TIMEOUT") return this.#respond(response)
    if (reason.code !== "RECEIVER_STOPPED") return
    // Whoever gets it next should not begin while this one still ends.
    const settled = new AbortController()
    handling.catch(() => {}).finally(() => settled.abort())
    await pause(LAST_WORDS_MS, settled.signal)
    await this.release()
  }

  /** Ends it, now: the handler's command goes to whoever comes next. */
  stop() {
    this.#abort("RECEIVER_STOPPED", "the receiver stops")
  }

  /** Gives the command back, to be handed out again at once. Never throws. */
  async release() {
    let why
    try {
      const { status } = await this.#manager.release(this.#lease.leaseId)
      if (status < 400 || status === 404 || status === 409) return
      why = status
    } catch (error) {
      why = error.message
    }
    this.#log(`${this.#lease.commandId} could not be given back (${why}); it is handed out again when its lease ends`)
  }

  /** How bodies come and go. */
  get #way() {
    const [manager, ending] = [this.#manager, this.#ending]
    return {
      connection: manager.connection,
      get signal() {
        return ending.signal
      },
      token: () => manager.token(),
    }
  }

  #log(text) {
    this.#its.log(`alien commands: ${text}`)
  }

  #abort(code, message) {
    // Each error takes its stack along.
    if (this.#ending.reason === undefined) this.#ending.abort(new CommandError({ code, message, retryable: code !== "COMMAND_CANCELLED" }))
  }

  async #handle(handlers) {
    const { envelope, commandId, attempt } = this.#lease
    const ending = this.#ending
    const found = handlers.find(envelope.command)
    const params = await decode(envelope.params ?? inline(Buffer.alloc(0)), found.takes, this.#way)
    const input = await handlers.check(envelope.command, found, params)
    if (ending.reason !== undefined) throw ending.reason
    const streams = found.takes === "stream"
    // A handler that leaves it alone is not to end the process by that.
    if (streams) params.on("error", () => {})
    const context = {
      input,
      ...(streams ? { size: params.size } : { params }),
      get signal() {
        return ending.signal
      },
      deadline: envelope.deadline === undefined ? undefined : new Date(envelope.deadline),
      commandId,
      attempt,
      target: envelope.target,
      traceparent: envelope.traceparent,
      tracestate: envelope.tracestate,
      progress: (value) => this.#tell(value),
    }
    try {
      return await this.#success(await found.handler(input, context))
    } finally {
      // What the handler has not read by now, it will not; a result may have been what it reads.
      if (streams) params.destroy()
    }
  }

  /** A result as it is told, once its bytes are where they belong. */
  async #success(value) {
    let source
    try {
      source = toSource(value)
    } catch (error) {
      throw new CommandError({ code: "HANDLER_ERROR", message: `the handler's result cannot be JSON: ${error.message}` })
    }
    const { maxInlineBytes = INLINE_MAX, storageUploadRequest } = this.#lease.envelope.responseHandling
    const { reason } = this.#ending
    if (reason !== undefined) {
      source.discard(value)
      throw reason
    }
    if (source.size <= maxInlineBytes || storageUploadRequest === undefined) {
      const bytes = source.size > maxInlineBytes ? undefined : (source.bytes ?? (await collect(source, maxInlineBytes)))
      if (bytes === undefined) throw tooLarge(source.size, { maxInlineBytes })
      return { status: "success", response: inline(bytes) }
    }
    try {
      const size = await upload(storageUploadRequest, source, this.#way)
      return { status: "success", response: { mode: "storage", size, storagePutUsed: true } }
    } catch (error) {
      if (error instanceof CommandError && error.httpStatusCode === 413) throw tooLarge(source.size, error.context?.details)
      throw error
    }
  }

  /** Sets the time that the handler has. It changes with each renewal. */
  #limit() {
    clearTimeout(this.#timer)
    if (this.#over.reason !== undefined) return
    const { deadline } = this.#lease.envelope
    const untilDeadline = deadline === undefined ? Infinity : Date.parse(deadline) - Date.now()
    const untilLease = this.#ends - Math.min(MARGIN_MS, this.#part) - now()
    const left = Math.min(untilDeadline, untilLease)
    if (left > 0) {
      this.#timer = setTimeout(() => this.#limit(), Math.min(left, TIMER_MAX))
      return
    }
    this.#late(untilDeadline <= untilLease ? `its deadline was ${deadline}` : "its lease ends, and could not be renewed")
  }

  /** Renews the lease for as long as the handler runs, and hears of its command being cancelled. */
  async #keep() {
    const { signal } = this.#over
    const backoff = new Backoff(...RETRY)
    while (!signal.aborted && this.#renewable) {
      const began = now()
      const waitSeconds = Math.min(RENEWAL_WAIT_SECONDS, this.#part / 1000)
      if (!(await this.#renew({ waitSeconds, signal }))) await pause(backoff.next(), signal)
      else {
        backoff.reset()
        // Woken early by something other than the end: not to be asked again and again without a pause.
        if (now() - began < this.#part / 2) await pause(this.#part / 2, signal)
      }
    }
  }

  /** One renewal; whether the manager could be asked. */
  async #renew(how) {
    const began = now()
    let answer
    try {
      answer = await this.#manager.renew(this.#lease.leaseId, how)
    } catch {
      // Away, or the handler is done: what ends the lease is its time.
      return false
    }
    const { status, json } = answer
    if (status === 200) {
      this.#ends = Math.max(this.#ends, began + this.#length)
      this.#limit()
      if (json?.cancelled === true) this.#unwanted()
      return true
    }
    if (status === 409 || status === 410 || (status === 404 && json?.code === "LEASE_NOT_FOUND")) {
      this.#abort("LEASE_LOST", "the command is not this receiver's any more")
      return true
    }
    // A manager of the plain protocol.
    if (status === 404 || status === 405 || status === 501) this.#renewable = false
    return false
  }

  /** The manager says that the command has ended: by its deadline, which it notices a little before or after us, or else by its caller. */
  #unwanted() {
    const { deadline } = this.#lease.envelope
    if (deadline !== undefined && Date.parse(deadline) - Date.now() < SAME_MOMENT_MS) this.#late(`its deadline was ${deadline}`)
    else this.#abort("COMMAND_CANCELLED", "the command was taken back by its caller")
  }

  #late(why) {
    this.#abort("HANDLER_TIMEOUT", `the handler was not done in time: ${why}`)
  }

  /** Tells how far the handler is. While one telling is on its way, the newest waits for it, and those between are left out. */
  #tell(value) {
    const bytes = encode(value).length
    if (bytes > PROGRESS_MAX) {
      throw new CommandError({ code: "PROGRESS_TOO_LARGE", message: `progress has ${bytes} bytes, and at most ${PROGRESS_MAX} can be told`, httpStatusCode: 400 })
    }
    const busy = this.#progress !== undefined
    this.#progress = { value: value === undefined ? null : value }
    if (!busy) this.#tellAll()
  }

  async #tellAll() {
    const { signal } = this.#over
    while (!signal.aborted && this.#renewable) {
      const telling = this.#progress
      await this.#renew({ progress: telling.value, signal })
      if (this.#progress === telling) break
    }
    this.#progress = undefined
  }

  /** Gives the result to the manager, as long as the lease lasts. */
  async #respond(response) {
    const { envelope, commandId } = this.#lease
    const backoff = new Backoff(...RETRY)
    const url = envelope.responseHandling.submitResponseUrl
    for (;;) {
      let why
      try {
        const answer = await this.#manager.respond(url, response, this.#stopped)
        const { status } = answer
        if (status < 300) return
        // It has ended otherwise, or is somebody else's.
        if (status === 404 || status === 409 || status === 410) {
          if (this.#ending.reason === undefined) this.#log(`the result of ${commandId} came too late (${status})`)
          return
        }
        why = `the manager answers with ${status}`
        if (status < 500 && !isTransient(answer) && status !== 401 && status !== 403) {
          // It will not have this one, however often it is sent.
          if (response.code === "RESPONSE_REFUSED") return this.#log(`the result of ${commandId} is lost: ${why}`)
          const message = `the manager refused the result (${status}${answer.json?.message ? `: ${answer.json.message}` : ""})`
          response = { status: "error", code: "RESPONSE_REFUSED", message }
          continue
        }
      } catch (error) {
        why = error.message
      }
      const delay = backoff.next()
      if (now() + delay >= this.#ends || this.#stopped.aborted) return this.#log(`the result of ${commandId} is lost, and it is handed out again: ${why}`)
      await pause(delay, this.#stopped)
    }
  }
}

function tooLarge(bytes, limits) {
  const size = bytes === undefined ? "more bytes" : `${bytes} bytes, more`
  const most = limits?.maxInlineBytes ?? limits?.mostBodyBytes
  const error = new CommandError({ code: "RESPONSE_TOO_LARGE", message: `the handler's result has ${size} than can be sent${most === undefined ? "" : `: ${most}`}`, httpStatusCode: 413 })
  error.details = { ...(bytes === undefined ? {} : { bytes }), ...limits }
  return error
}

/** What was thrown, as an answer. */
function failure(error) {
  const own = typeof error?.code === "string" && error.code !== ""
  const message = typeof error?.message === "string" ? error.message : text(error)
  const response = { status: "error", code: own ? cut(error.code, CODE_MAX) : "HANDLER_ERROR", message: cut(message, MESSAGE_MAX) }
  const details = error?.details ?? error?.context
  if (details === undefined) return response
  try {
    return { ...response, details: JSON.parse(JSON.stringify(details)) }
  } catch {
    // It cannot be sent; the message can.
    return response
  }
}

/** As much of a text as has at most so many bytes. */
function cut(text, most) {
  if (Buffer.byteLength(text) <= most) return text
  // A character that would be cut in two is left out.
  return new TextDecoder().decode(Buffer.from(text).subarray(0, most), { stream: true })
}

function text(value) {
  try {
    return String(value)
  } catch {
    // An object without a prototype has no text.
    return "an object was thrown"
  }
}

module.exports = { Lease }
