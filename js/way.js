"use strict"

// The way to a cluster's manager of commands: a loopback port that leads through the API server, for as long as it is
// needed. src/node/manager.rs is the native half.

const { defaults, native, open, retrace, traced } = require("./call.js")
const { snapshot } = require("./raw.js")

/**
 * Opens it. Whoever has it closes it: nothing is kept alive by it, but everything of this account could use it.
 *
 * @param {object} options the engine's, with the deployment's name
 * @param {{admin?: boolean, signal?: AbortSignal}} how `admin`: as the manager's administrator
 * @param {Function} top the public function that was called; it must not have awaited anything yet
 * @returns {Promise<{url: string, token: string, deploymentId?: string, ca?: string, close: () => void}>}
 */
async function openWay(options, { admin = false, signal }, top) {
  const trace = traced(top)
  signal?.throwIfAborted()
  const addon = native()
  const request = { options: snapshot(options), defaults: defaults(), admin }
  const number = open(addon.wayOpen(JSON.stringify(request)), top)
  const close = () => addon.wayClose(number)
  signal?.addEventListener("abort", close, { once: true })
  try {
    const started = await addon.wayStart(number)
    signal?.throwIfAborted()
    return { ...retrace(() => open(started, top), trace), close }
  } catch (error) {
    close()
    throw error
  } finally {
    signal?.removeEventListener("abort", close)
  }
}

module.exports = { openWay }
