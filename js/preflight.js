"use strict"

const { call } = require("./call.js")
const { snapshot } = require("./raw.js")

async function preflight(stack, options) {
  options?.signal?.throwIfAborted()
  return call("preflight", { stack: snapshot(stack), options: questions(options) }, preflight)
}

/**
 * What the checks ask of the options: the platform, the ids of the bindings, and the names of the rest, so that a slip in
 * one is found. What is in a binding or a secret is not looked at.
 */
function questions(options) {
  if (typeof options !== "object" || options === null || Array.isArray(options)) return snapshot(options)
  const { platform, bindings } = options
  const names = (value) => Object.fromEntries(Object.keys(value).map((key) => [key, true]))
  const ids = typeof bindings === "object" && bindings !== null && !Array.isArray(bindings) ? names(bindings) : bindings
  return snapshot({ ...names(options), platform, bindings: ids })
}

module.exports = { preflight }
