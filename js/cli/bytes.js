"use strict"

// Bytes from files and to files: of any size, and never whole in memory.

const { randomBytes } = require("node:crypto")
const fs = require("node:fs")
const { pipeline } = require("node:stream/promises")
const { UsageError } = require("./args.js")
const { AlienError } = require("../errors.js")

/**
 * What `--params` names, as it is: `@FILE`, `-` for standard input, or the text itself.
 *
 * @returns {Buffer | import("node:stream").Readable | {size: number, stream: () => import("node:stream").Readable}}
 */
function source(given) {
  if (given === "-") return process.stdin
  if (!given.startsWith("@")) return Buffer.from(given)
  const file = given.slice(1)
  const fd = open(file)
  const stat = fs.fstatSync(fd)
  if (!stat.isFile()) return fs.createReadStream(file, { fd })
  fs.closeSync(fd)
  // As a Blob is: its size is known, and it can be read again where a connection is cut.
  const stream = () => fs.createReadStream(file)
  return { size: stat.size, stream, arrayBuffer: async () => fs.readFileSync(file) }
}

function open(file) {
  try {
    return fs.openSync(file, "r")
  } catch (error) {
    throw new UsageError(`--params: ${file} cannot be read (${error.code})`)
  }
}

/**
 * All of a file, or of standard input where there is none. Not by reading descriptor 0 at once: where nothing has come yet,
 * another process may have set it not to wait.
 *
 * @param {string | undefined} file
 * @param {string} option the one that names it, for the error
 * @throws {UsageError} it cannot be read
 */
async function readAll(file, option) {
  try {
    if (file !== undefined) return fs.readFileSync(file)
    const pieces = []
    for await (const piece of process.stdin) pieces.push(piece)
    return Buffer.concat(pieces)
  } catch (error) {
    throw new UsageError(`--${option}: ${file ?? "standard input"} cannot be read (${error.code})`)
  }
}

/**
 * Writes a stream to a file, which is there once it is whole, or with `-` to standard output. Gives how many bytes there were.
 *
 * @param {import("node:stream").Readable} stream
 */
async function write(stream, file, signal) {
  let bytes = 0
  const counted = async function* (pieces) {
    for await (const piece of pieces) {
      bytes += piece.length
      yield piece
    }
  }
  if (file === "-") {
    await pipeline(stream, counted, process.stdout, { end: false, signal })
    return bytes
  }
  // A device or a pipe cannot be replaced, and is never half there.
  const whole = fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? true
  const aside = whole ? `${file}.${randomBytes(6).toString("hex")}.part` : file
  try {
    await pipeline(stream, counted, fs.createWriteStream(aside), { signal })
    if (whole) fs.renameSync(aside, file)
  } catch (error) {
    if (whole) fs.rmSync(aside, { force: true })
    const ours = error.syscall !== undefined && (error.path === aside || error.code === "ENOSPC")
    if (!ours) throw error
    throw new AlienError({ code: "OUTPUT_FAILED", message: `${file} cannot be written (${error.code})`, httpStatusCode: 500, retryable: false, internal: false })
  }
  return bytes
}

module.exports = { readAll, source, write }
