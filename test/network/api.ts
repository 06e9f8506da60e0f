// What the tests' hosts serve to those who ask with a token: they say what they were asked with, in ways that a token could
// come back by.
import type { IncomingMessage, ServerResponse } from "node:http";

/** Answers below /api/. */
export function api(request: IncomingMessage, response: ServerResponse, url: URL): void {
  const said = request.headers.authorization ?? "";
  switch (url.pathname.slice("/api/".length)) {
    case "echo":
      response.setHeader("x-echo", said);
      piecemeal(response, `${said}\n${Buffer.from(said).toString("base64")}\n`);
      break;
    case "redirect":
      response.statusCode = 307;
      response.setHeader("location", `https://${url.searchParams.get("to")}/api/echo`);
      response.end();
      break;
    case "never":
      // Its head, and nothing more.
      response.write("begun\n");
      break;
    default:
      response.statusCode = 404;
      response.end();
  }
}

/** Byte by byte, so that nothing comes whole. */
function piecemeal(response: ServerResponse, text: string): void {
  response.socket?.setNoDelay();
  const bytes = [...Buffer.from(text)];
  const next = (): void => {
    const byte = bytes.shift();
    if (byte === undefined) response.end();
    else response.write(Buffer.from([byte]), () => setImmediate(next));
  };
  next();
}
