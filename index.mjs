// The same classes as require() gives: an error made by one half of a program is an instance for the other.
import { createRequire } from "node:module"

// Not `import`: Node would first scan the file for its exports, which takes longer than running it.
const core = createRequire(import.meta.url)("./index.js")

export const {
  AlienError,
  Daemon,
  Deployment,
  Kv,
  Queue,
  Resource,
  ResourceNotFoundError,
  ResourceOutputsParseError,
  Stack,
  Storage,
  UnexpectedResourceTypeError,
  ValidationError,
  Vault,
  connect,
  defineError,
  deploy,
  deployments,
  getResourceOutputs,
  images,
  plan,
  preflight,
  prune,
  render,
} = core
