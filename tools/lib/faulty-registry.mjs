// A registry that fails on request, for the tests: stands before an image layout and cuts, corrupts or refuses.

import { createServer } from "node:http"
import { createReadStream, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { findTag } from "./oci.mjs"

/**
 * Serves the layout in `dir` under every repository name.
 *
 * @param {string} dir
 * @param {{blob?: (request: {number: number, digest: string, range?: string}) => undefined | "cut" | "hang" | "corrupt" | number}} fault
 *   asked for every layer's GET, `number` counting from 1; a number is the status to answer with
 * @returns {Promise<{url: string, requests: {method: string, url: string, range?: string}[], close(): Promise<void>}>}
 */
export async function serveFaulty(dir, { blob = () => undefined } = {}) {
  const requests = []
  let number = 0
  const layers = () => new Set(JSON.parse(readFileSync(join(dir, "index.json"), "utf8")).manifests.flatMap(({ digest }) =>
    (JSON.parse(readFileSync(join(dir, "blobs/sha256", digest.slice(7)), "utf8")).layers ?? []).map((layer) => layer.digest)))
  const server = createServer((request, response) => {
    requests.push({ method: request.method, url: request.url, range: request.headers.range })
    const answer = (status, headers = {}) => response.writeHead(status, headers).end()
    if (request.url === "/v2/") return answer(200)
    const [, kind, reference] = request.url.match(/^\/v2\/.+\/(manifests|blobs)\/([^/]+)$/) ?? []
    const digest = reference?.startsWith("sha256:") ? reference : reference && findTag(dir, reference)?.digest
    if (digest === undefined) return answer(404)
    const file = join(dir, "blobs/sha256", digest.slice(7))
    const size = statSync(file, { throwIfNoEntry: false })?.size
    if (size === undefined) return answer(404)
    const manifest = kind === "manifests"
    const media = manifest ? JSON.parse(readFileSync(file, "utf8")).mediaType : "application/octet-stream"
    const start = manifest ? 0 : Number(request.headers.range?.match(/^bytes=(\d+)-/)?.[1] ?? 0)
    const fault = request.method === "GET" && layers().has(digest) ? blob({ number: ++number, digest, range: request.headers.range }) : undefined
    if (typeof fault === "number") return answer(fault)
    if (fault === "hang") return
    const headers = { "content-length": size - start, "content-type": media, "docker-content-digest": digest }
    if (start > 0) headers["content-range"] = `bytes ${start}-${size - 1}/${size}`
    response.writeHead(start > 0 ? 206 : 200, headers)
    if (request.method === "HEAD") return response.end()
    if (fault === "corrupt") {
      const bytes = readFileSync(file).subarray(start)
      bytes[bytes.length >> 1] ^= 1
      return response.end(bytes)
    }
    if (fault === "cut") {
      const bytes = readFileSync(file).subarray(start)
      return response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy())
    }
    createReadStream(file, { start }).pipe(response)
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    close: () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())),
  }
}
