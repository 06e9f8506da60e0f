// What a dev server is to a browser: a page whose script asks over a WebSocket. For the Python of a minimal Debian, which
// has no http module.

export const TITLE = "from the guest";

/** In the page: what the WebSocket answered, or why there is no answer. */
export const ANSWERED = "answered";

const PAGE = `<!doctype html><title>${TITLE}</title><script>
var ${ANSWERED} = new Promise((resolve) => {
  const socket = new WebSocket("ws://" + location.host + "/live");
  socket.onopen = () => socket.send("are you there?");
  socket.onmessage = ({ data }) => resolve(data);
  socket.onclose = ({ code }) => resolve("closed with " + code);
});
</script>`;

/** What it answers to the page. */
export const ANSWER = "heard: are you there?";

/** A line for `python3 -c`; it listens on port 8001. */
export const DEV_SERVER = `
import base64, hashlib, socket, threading
PAGE = b'''${PAGE}'''
def serve(c):
  head = b""
  while b"\\r\\n\\r\\n" not in head:
    more = c.recv(65536)
    # A browser opens connections that it then needs not.
    if not more: return
    head += more
  fields = dict(line.split(": ", 1) for line in head.decode().split("\\r\\n")[1:] if ": " in line)
  key = {name.lower(): value for name, value in fields.items()}.get("sec-websocket-key")
  if key is None:
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(PAGE) + PAGE)
    return
  proof = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
  c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + proof + b"\\r\\n\\r\\n")
  frame = c.makefile("rb")
  size = frame.read(2)[1] & 127
  mask = frame.read(4)
  text = b"heard: " + bytes(b ^ mask[i % 4] for i, b in enumerate(frame.read(size)))
  c.sendall(bytes([0x81, len(text)]) + text)
  frame.read()
def run(c):
  try: serve(c)
  except OSError: pass
  finally: c.close()
listener = socket.create_server(("", 8001))
while True: threading.Thread(target=run, args=(listener.accept()[0],), daemon=True).start()
`;
