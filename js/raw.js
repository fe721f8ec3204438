"use strict"

// Values on their way to the native side. JSON has no word for undefined, NaN or a function, and a message must be able
// to say that one was found; so these become {"\0": kind}, and real keys that begin with "\0" get one more.
// src/model/raw.rs is the reader. Nothing is judged here.

const MARK = "\0"
/** The prototype of every builder holds its class's name here, in every realm. */
const BUILDER = Symbol.for("@alienplatform/core/builder")
/** Deeper than any real document, and far from the reader's own limit. */
const MOST_DEPTH = 64

/** @param {string} kind */
function other(kind) {
  return { [MARK]: kind }
}

/**
 * A copy of `value` as plain data: later changes to the original do not reach it. Getters run, once; what they throw is
 * the caller's own error and passes through.
 *
 * @param {unknown} value
 * @param {object[]} [above] the objects around it
 * @returns {unknown}
 */
function snapshot(value, above = []) {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? value : other("string with half a surrogate pair")
    case "boolean":
      return value
    case "number":
      return Number.isFinite(value) ? value : other(String(value))
    case "object":
      break
    default:
      return other(typeof value)
  }
  if (value === null) return null
  if (above.includes(value)) return other("object that contains itself")
  if (above.length >= MOST_DEPTH) return other(`object more than ${MOST_DEPTH} levels deep`)
  above.push(value)
  const copy = Array.isArray(value) ? snapshotArray(value, above) : snapshotObject(value, above)
  above.pop()
  return copy
}

/** Holes become undefined. */
function snapshotArray(items, above) {
  const copy = new Array(items.length)
  for (let index = 0; index < items.length; index++) copy[index] = snapshot(items[index], above)
  return copy
}

/** A Map, a Date or a promise has no keys of its own, and would pass for an empty object: it is called by its name. */
function snapshotObject(value, above) {
  const prototype = Object.getPrototypeOf(value)
  // Plain, in any realm. Nothing but its own keys is read: it may be a proxy that throws for what it does not know.
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null
  if (!isPlain) {
    if (prototype[BUILDER] !== undefined) return other(`unbuilt ${prototype[BUILDER]}`)
    const tag = Object.prototype.toString.call(value).slice(8, -1)
    if (tag !== "Object") return other(tag)
  }
  const copy = {}
  for (const key of Object.keys(value)) {
    const item = snapshot(value[key], above)
    if (key.charCodeAt(0) === 0) copy[MARK + key.toWellFormed()] = item
    // An assignment would set the prototype.
    else if (key === "__proto__") Object.defineProperty(copy, key, { value: item, enumerable: true })
    else copy[key.isWellFormed() ? key : key.toWellFormed()] = item
  }
  return copy
}

module.exports = { BUILDER, snapshot }
