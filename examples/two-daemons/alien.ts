// Two daemons that share a storage: one may write there, the other may only read.
import * as alien from "@alienplatform/core"

const files = new alien.Storage("files").build()

const writer = new alien.Daemon("writer")
  .code({ type: "image", image: "ghcr.io/acme/writer:1" })
  .link(files)
  .permissions("writing")
  .build()

const reader = new alien.Daemon("reader")
  .code({ type: "image", image: "ghcr.io/acme/reader:1" })
  .link(files)
  .environment({ POLL_MS: "50" })
  .permissions("reading")
  .build()

export default new alien.Stack("two-daemons")
  .add(files, "frozen")
  .add(writer, "live")
  .add(reader, "live")
  .permissions({
    profiles: {
      writing: { files: ["storage/data-read", "storage/data-write"] },
      reading: { files: ["storage/data-read"] },
    },
  })
  .platforms(["local"])
  .build()
