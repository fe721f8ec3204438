"use strict"

// A manager as a receiver sees it: its calls, with a token that may change under way.

const { Connection } = require("./http.js")

const CALL_MS = 10_000
/** For commands that were handed to us in the moment in which we stopped asking: nobody else has them until their leases end. */
const LINGER_MS = 1000

class Manager {
  #connection
  #its
  #token

  /** @param {ReturnType<typeof import("./settings.js").settings>} its */
  constructor(its) {
    this.#connection = new Connection(its.url, its.caFile)
    this.#its = its
  }

  /** The token as it is now. */
  token() {
    return (this.#token ??= this.#its.token())
  }

  get connection() {
    return this.#connection
  }

  /** Asks for at most so many commands; a manager that can waits for one. */
  acquire(maxLeases, signal) {
    const { deploymentId, target, leaseSeconds, waitSeconds } = this.#its
    const json = { deploymentId, target, maxLeases, leaseSeconds, waitSeconds }
    return this.#call("POST", "v1/commands/leases", { json, signal, timeoutMs: CALL_MS + waitSeconds * 1000, lingerMs: LINGER_MS })
  }

  renew(leaseId, { waitSeconds = 0, progress, signal }) {
    const json = { leaseSeconds: this.#its.leaseSeconds, waitSeconds, progress }
    return this.#call("POST", `v1/commands/leases/${encodeURIComponent(leaseId)}/renew`, { json, signal, timeoutMs: CALL_MS + waitSeconds * 1000 })
  }

  release(leaseId) {
    return this.#call("POST", `v1/commands/leases/${encodeURIComponent(leaseId)}/release`, { json: {}, timeoutMs: CALL_MS })
  }

  /** `url` is the envelope's: whole, below the manager's address, or relative to where leases come from. */
  respond(url, json, signal) {
    const path = /^(\/|https?:)/i.test(url) ? url : new URL(url, this.#connection.url("v1/commands/leases")).href
    return this.#call("PUT", path, { json, signal, timeoutMs: CALL_MS })
  }

  async #call(method, path, how) {
    const answer = await this.#connection.call(method, path, { ...how, token: this.token() })
    if (answer.status !== 401) return answer
    // It may have been replaced; then this is the one that counts from now on.
    const fresh = this.#its.token()
    if (fresh === this.#token) return answer
    this.#token = fresh
    return this.#connection.call(method, path, { ...how, token: fresh })
  }

  close() {
    this.#connection.close()
  }
}

module.exports = { Manager }
