"use strict"

// Calls to the native side. Requests and answers are JSON text; an answer is {"ok": value} or {"error": report}, and is
// opened here, so that objects and errors belong to the realm of whoever called (see src/node/mod.rs).

const { fromReport } = require("./errors.js")

// What finds the addon, and what the environment says, is read with the first call: an import alone has to be quick.

/** The addon's functions. */
const native = () => require("./native.js").native()

/** The defaults of a call's options. */
const defaults = () => require("./environment.js").defaults()

/**
 * Opens an envelope.
 *
 * @param {string} text
 * @param {Function} top the public function that was called, still on the stack: stack traces begin at its caller
 */
function open(text, top) {
  const answer = JSON.parse(text)
  if (answer.error === undefined) return answer.ok
  throw fromReport(answer.error, top)
}

/**
 * A call that answers at once.
 *
 * @param {string} name of the native function
 * @param {unknown} request plain data, as `snapshot` makes it
 * @param {Function} top the public function that was called
 */
function call(name, request, top) {
  return open(native()[name](JSON.stringify(request)), top)
}

/** The stack of the public function `top`, which must not have awaited anything yet, for `retrace`. */
function traced(top) {
  const trace = {}
  Error.captureStackTrace(trace, top)
  return trace
}

/**
 * Runs `opening`; what it throws gets the stack of the call instead of the event loop's.
 *
 * @param {() => unknown} opening
 * @param {{stack: string}} trace of `traced`
 */
function retrace(opening, trace) {
  try {
    return opening()
  } catch (error) {
    const frames = trace.stack.slice(trace.stack.indexOf("\n"))
    error.stack = `${error.name}: ${error.message}${frames}`
    throw error
  }
}

module.exports = { call, defaults, native, open, retrace, traced }
