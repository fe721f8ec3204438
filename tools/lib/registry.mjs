// A registry for pulling only, on loopback: image layouts by repository name (OCI distribution specification 1.1,
// "Pull"). For the quick start, which must not need a real one; the tests use the real one.

import { createReadStream, existsSync, statSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { findTag } from "./oci.mjs"

/**
 * Serves `repositories`, a map from name (`acme/connector`) to layout folder; on loopback, or on another address.
 *
 * @returns {Promise<{url: string, close(): Promise<void>}>}
 */
export async function serve(repositories, host = "127.0.0.1") {
  const server = createServer((request, response) => {
    const answer = (status, headers = {}) => response.writeHead(status, headers).end()
    if (request.url === "/v2/") return answer(200)
    const [, name, kind, reference] = request.url.match(/^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/) ?? []
    const dir = repositories[name]
    if (dir === undefined || !["GET", "HEAD"].includes(request.method)) return answer(404)
    const tagged = kind === "manifests" && !reference.startsWith("sha256:") ? findTag(dir, reference) : undefined
    const digest = tagged?.digest ?? reference
    const file = join(dir, "blobs", "sha256", digest.replace(/^sha256:/, ""))
    if (!/^sha256:[0-9a-f]{64}$/.test(digest) || !existsSync(file)) return answer(404)
    response.writeHead(200, {
      "content-length": statSync(file).size,
      "content-type": kind === "manifests" ? "application/vnd.oci.image.manifest.v1+json" : "application/octet-stream",
      "docker-content-digest": digest,
    })
    if (request.method === "HEAD") return response.end()
    createReadStream(file).pipe(response)
  })
  await new Promise((resolve) => server.listen(0, host, resolve))
  return {
    url: `http://${host}:${server.address().port}`,
    close: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}
