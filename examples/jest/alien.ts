// A stack whose Jest test (stack.test.js) deploys it for real, looks at its log, and kills it to see it come back.
import * as alien from "@alienplatform/core"

const greeter = new alien.Daemon("greeter")
  .code({ type: "image", image: "ghcr.io/acme/greeter:1" })
  .environment({ GREETING: "hello" })
  .permissions("execution")
  .stopGracePeriodSeconds(5)
  .build()

export default new alien.Stack("greetings").add(greeter, "live").platforms(["local", "kubernetes"]).build()
