"use strict"

// What is asked of a stack alone: whether it can run, and its manifests. Nothing is touched.

const { call, defaults } = require("./call.js")
const { snapshot } = require("./raw.js")

async function preflight(stack, options) {
  options?.signal?.throwIfAborted()
  return call("preflight", { stack: snapshot(stack), options: questions(options) }, preflight)
}

/**
 * What the checks ask of the options: the platform, the bindings, and the names of the rest, so that a slip in one is
 * found. What is in a secret is not looked at.
 */
function questions(options) {
  if (typeof options !== "object" || options === null || Array.isArray(options)) return snapshot(options)
  const { platform, bindings } = options
  const names = Object.fromEntries(Object.keys(options).map((key) => [key, true]))
  return snapshot({ ...names, platform, bindings })
}

async function render(stack, options) {
  return call("render", { stack: snapshot(stack), ...plain(options) }, render)
}

/** The least Role that a deploy with these options needs, as YAML; with `commands`, of daemons that take some. */
async function leastRole(options, commands) {
  return call("leastRole", { ...plain(options), commands }, leastRole)
}

/** The options of a call that neither waits nor tells anything. */
function plain(options) {
  const { signal, onEvent, ...rest } = options ?? {}
  signal?.throwIfAborted()
  return { options: snapshot(rest), defaults: defaults() }
}

module.exports = { leastRole, preflight, render }
