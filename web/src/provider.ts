/** The socket: Yjs' sync and awareness protocols, tried again until the page is closed. */
import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import * as awareness from "y-protocols/awareness";
import * as sync from "y-protocols/sync";
import type * as Y from "yjs";

const SYNC = 0;
const AWARENESS = 1;

export type State = "connecting" | "online" | "offline" | "refused";

export class Provider {
  state: State = "connecting";
  /** Whether the document has had all that the server has. */
  synced = false;
  private socket: WebSocket | null = null;
  private pause = 250;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly doc: Y.Doc,
    private readonly people: awareness.Awareness,
    private readonly token: string,
    private readonly readsOnly: boolean,
    private readonly changed: () => void,
  ) {
    doc.on("update", (update: Uint8Array, origin: unknown) => {
      if (origin === this || this.readsOnly) return;
      const message = encoding.createEncoder();
      encoding.writeVarUint(message, SYNC);
      sync.writeUpdate(message, update);
      this.send(message);
    });
    people.on("update", (change: { added: number[]; updated: number[]; removed: number[] }, origin: unknown) => {
      if (origin === "local") this.tell([...change.added, ...change.updated, ...change.removed]);
    });
    window.addEventListener("online", () => this.again(0));
    window.addEventListener("pagehide", () => awareness.removeAwarenessStates(people, [doc.clientID], "local"));
    this.open();
  }

  private open(): void {
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/wall`;
    const socket = new WebSocket(url, ["fig-wall", this.token]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.pause = 250;
      this.become("online");
      const message = encoding.createEncoder();
      encoding.writeVarUint(message, SYNC);
      sync.writeSyncStep1(message, this.doc);
      this.send(message);
      // Set again, so that its clock passes the one with which the server said that we had gone.
      const here = this.people.getLocalState();
      if (here) this.people.setLocalState(here);
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => this.take(new Uint8Array(event.data));
    socket.onclose = (event) => {
      const others = [...this.people.getStates().keys()].filter((id) => id !== this.doc.clientID);
      awareness.removeAwarenessStates(this.people, others, this);
      this.become(event.code === 1008 ? "refused" : "offline");
      if (event.code !== 1008) this.again(this.pause);
      this.pause = Math.min(this.pause * 2, 5000);
    };
  }

  private again(wait: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.socket === null || this.socket.readyState === WebSocket.CLOSED) this.open();
    }, wait);
  }

  private take(data: Uint8Array): void {
    const message = decoding.createDecoder(data);
    const kind = decoding.readVarUint(message);
    if (kind === SYNC) {
      const reply = encoding.createEncoder();
      encoding.writeVarUint(reply, SYNC);
      const step = sync.readSyncMessage(message, reply, this.doc, this);
      if (step === sync.messageYjsSyncStep2 && !this.synced) {
        this.synced = true;
        this.changed();
      }
      if (encoding.length(reply) > 1) this.send(reply);
    } else if (kind === AWARENESS) {
      awareness.applyAwarenessUpdate(this.people, decoding.readVarUint8Array(message), this);
    }
  }

  private tell(clients: number[]): void {
    const message = encoding.createEncoder();
    encoding.writeVarUint(message, AWARENESS);
    encoding.writeVarUint8Array(message, awareness.encodeAwarenessUpdate(this.people, clients));
    this.send(message);
  }

  private send(message: encoding.Encoder): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encoding.toUint8Array(message));
  }

  private become(state: State): void {
    this.state = state;
    this.changed();
  }
}
