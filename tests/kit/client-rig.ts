import { VfioUserDevice, type VfioUserOptions } from '../../src/vfio-user/client.ts';
import { DmaAccess } from '../../src/vfio-user/messages.ts';
import { type PeerReport, type PeerScript, ScriptedPeer, type SeenMessage } from './scripted-peer.ts';

export interface Connected {
  readonly device: VfioUserDevice;
  readonly report: Promise<PeerReport>;
  /**
   * For a peer that sends no more: from now on the client's waits end much sooner. Until then the
   * client is as patient as a slow machine needs.
   */
  readonly hurry: () => void;
  /** How long the client has meant to wait each time since `hurry`, in milliseconds. */
  readonly waits: readonly number[];
}

const HURRY_MS = 50;

export class ClientRig implements AsyncDisposable {
  readonly peer: ScriptedPeer;

  private constructor(peer: ScriptedPeer) {
    this.peer = peer;
  }

  static async start(): Promise<ClientRig> {
    return new ClientRig(await ScriptedPeer.start());
  }

  connect(script: PeerScript = {}, options: VfioUserOptions = {}): Connected {
    const { stream, report } = this.peer.serve(script);
    const wait = stream.wait.bind(stream);
    const device = VfioUserDevice.connect(stream, { name: 'peer', timeoutMs: 60_000, ...options });
    const waits: number[] = [];
    const hurry = () => {
      stream.wait = (what, timeoutMs) => {
        waits.push(timeoutMs);
        return wait(what, Math.min(timeoutMs, HURRY_MS));
      };
    };
    return { device, report, hurry, waits };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.peer[Symbol.asyncDispose]();
  }
}

/**
 * The errno that `call` throws, 'none' when it throws nothing; `BusError` where a C program would
 * get SIGBUS.
 */
/** The messages of `command` that the peer has seen, once the client has closed. */
export async function seen({ device, report }: Connected, command: number): Promise<readonly SeenMessage[]> {
  device.close();
  const { seen: all, failed } = await report;
  if (failed !== null) throw new Error(failed);
  return all.filter((message) => message.command === command);
}

/** A payload as 32-bit words. */
export function words({ payload }: SeenMessage): number[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return Array.from({ length: Math.floor(payload.length / 4) }, (_, i) => view.getUint32(4 * i, true));
}

/** Payload of DMA_READ, or with `data` of DMA_WRITE. */
export function dmaAccess(address: bigint, count: number, data = new Uint8Array(0)): Uint8Array {
  const payload = new Uint8Array(DmaAccess.structSize + data.length);
  DmaAccess.encode(new DataView(payload.buffer), 0, { address, count: BigInt(count) });
  payload.set(data, DmaAccess.structSize);
  return payload;
}
