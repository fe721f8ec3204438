// Makes OCI images by hand: an image layout on disk from files in memory or on disk (OCI image specification 1.1).
// For the quick start and the tests; a project of its own builds its images with docker, buildah or ko.

import { createHash } from "node:crypto"
import { closeSync, constants, copyFileSync, createWriteStream, mkdirSync, openSync, readFileSync, readSync, renameSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { gzipSync } from "node:zlib"

const BLOCK = 512
const TYPES = { file: "0", hardlink: "1", symlink: "2", char: "3", block: "4", dir: "5", fifo: "6" }

/**
 * One entry of a tar file.
 *
 * @typedef {{path: string, type?: keyof typeof TYPES, mode?: number, uid?: number, gid?: number, target?: string,
 *   data?: string | Buffer, from?: string}} Entry `from` is a file on disk to take the contents of
 */

/** A tar header (POSIX ustar); names that do not fit get a PAX header before it. */
function header({ path, type = "file", mode, uid = 0, gid = 0, target = "" }, size) {
  const block = Buffer.alloc(BLOCK)
  const put = (text, offset, length) => block.write(text.slice(0, length), offset, length, "latin1")
  const octal = (number, offset, length) => put(number.toString(8).padStart(length - 1, "0"), offset, length)
  const name = Buffer.from(path).toString("latin1")
  put(name, 0, 100)
  octal(mode ?? (type === "dir" ? 0o755 : 0o644), 100, 8)
  octal(uid, 108, 8)
  octal(gid, 116, 8)
  octal(size, 124, 12)
  octal(1_700_000_000, 136, 12)
  put(" ".repeat(8), 148, 8)
  put(TYPES[type], 156, 1)
  put(Buffer.from(target).toString("latin1"), 157, 100)
  put("ustar\0" + "00", 257, 8)
  put(block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0") + "\0 ", 148, 8)
  const long = []
  if (name.length > 100) long.push(record("path", path))
  if (Buffer.byteLength(target) > 100) long.push(record("linkpath", target))
  return long.length === 0 ? block : Buffer.concat([pax(Buffer.concat(long)), block])
}

function record(key, value) {
  const rest = Buffer.byteLength(` ${key}=${value}\n`)
  let length = rest + String(rest).length
  if (String(length).length !== String(rest).length) length = rest + String(length).length
  return Buffer.from(`${length} ${key}=${value}\n`)
}

function pax(records) {
  const block = header({ path: "pax" }, records.length)
  block.write("x", 156)
  block.write(" ".repeat(8), 148)
  block.write(block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0") + "\0 ", 148)
  return Buffer.concat([block, records, Buffer.alloc(padding(records.length))])
}

const padding = (size) => (BLOCK - (size % BLOCK)) % BLOCK

/** The bytes of a tar file, piece by piece. */
function* tar(entries) {
  for (const entry of entries) {
    const data = entry.data === undefined ? undefined : Buffer.from(entry.data)
    const size = entry.from === undefined ? (data?.length ?? 0) : statSync(entry.from).size
    yield header(entry, size)
    if (data !== undefined) yield data
    if (entry.from !== undefined) yield* contents(entry.from)
    yield Buffer.alloc(padding(size))
  }
  yield Buffer.alloc(2 * BLOCK)
}

function* contents(file) {
  const fd = openSync(file, "r")
  try {
    for (;;) {
      const buffer = Buffer.alloc(1 << 20)
      const read = readSync(fd, buffer)
      if (read === 0) return
      yield buffer.subarray(0, read)
    }
  } finally {
    closeSync(fd)
  }
}

const sha256 = (bytes) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`

/** An image layout folder that images are added to. */
export class Layout {
  #manifests = []

  constructor(dir) {
    this.dir = dir
    this.blobs = join(dir, "blobs", "sha256")
    mkdirSync(this.blobs, { recursive: true })
    writeFileSync(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }))
  }

  /** Stores a blob; returns its descriptor. */
  blob(bytes, mediaType) {
    const digest = sha256(bytes)
    writeFileSync(join(this.blobs, digest.slice(7)), bytes)
    return { mediaType, digest, size: bytes.length }
  }

  /**
   * Stores a layer; returns its descriptor and its diff_id. Without compression it is streamed, however large.
   *
   * @param {Iterable<Entry>} entries
   * @param {{compression?: "none" | "gzip"}} [options]
   */
  async layer(entries, { compression = "gzip" } = {}) {
    const base = "application/vnd.oci.image.layer.v1.tar"
    if (compression === "gzip") {
      const bytes = Buffer.concat([...tar(entries)])
      return { descriptor: this.blob(gzipSync(bytes), `${base}+gzip`), diffId: sha256(bytes) }
    }
    const aside = join(this.blobs, `.${process.pid}`)
    const file = createWriteStream(aside)
    const hash = createHash("sha256")
    let size = 0
    for (const piece of tar(entries)) {
      hash.update(piece)
      size += piece.length
      if (!file.write(piece)) await new Promise((resolve) => file.once("drain", resolve))
    }
    await new Promise((resolve, reject) => file.end((error) => (error ? reject(error) : resolve())))
    const digest = `sha256:${hash.digest("hex")}`
    renameSync(aside, join(this.blobs, digest.slice(7)))
    return { descriptor: { mediaType: base, digest, size }, diffId: digest }
  }

  /** Stores a tar file that is there as a layer; returns its descriptor and its diff_id. */
  tarLayer(file) {
    const hash = createHash("sha256")
    for (const piece of contents(file)) hash.update(piece)
    const digest = `sha256:${hash.digest("hex")}`
    copyFileSync(file, join(this.blobs, digest.slice(7)), constants.COPYFILE_FICLONE)
    return { descriptor: { mediaType: "application/vnd.oci.image.layer.v1.tar", digest, size: statSync(file).size }, diffId: digest }
  }

  /**
   * Adds an image of finished layers under a tag; returns its manifest's descriptor.
   *
   * @param {string} tag
   * @param {{descriptor: object, diffId: string}[]} layers
   * @param {object} config the `config` object: `Entrypoint`, `Cmd`, `Env`, `User`, `WorkingDir`, …
   * @param {{architecture?: string, os?: string}} [platform]
   */
  image(tag, layers, config, { architecture = process.arch === "x64" ? "amd64" : process.arch, os = "linux" } = {}) {
    const image = { architecture, os, config, rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) } }
    const manifest = {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: this.blob(Buffer.from(JSON.stringify(image)), "application/vnd.oci.image.config.v1+json"),
      layers: layers.map(({ descriptor }) => descriptor),
    }
    const descriptor = this.blob(Buffer.from(JSON.stringify(manifest)), manifest.mediaType)
    const named = { ...descriptor, annotations: { "org.opencontainers.image.ref.name": tag } }
    this.#manifests = [...this.#manifests.filter((other) => other.annotations["org.opencontainers.image.ref.name"] !== tag), named]
    const index = { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: this.#manifests }
    writeFileSync(join(this.dir, "index.json"), JSON.stringify(index))
    return descriptor
  }
}

/** The manifest's descriptor of a tag in a layout folder, or `undefined`. */
export function findTag(dir, tag) {
  const { manifests } = JSON.parse(readFileSync(join(dir, "index.json"), "utf8"))
  return manifests.find(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] === tag)
}
