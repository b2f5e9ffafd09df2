/** `vfio net share`: the driver of a physical function, for tenants of its virtual functions. */
import type { PortEvent } from '../../drivers/82576/events.ts';
import type { VirtualFunctions } from '../../drivers/82576/virtual-functions.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { answerFrames, answersLine } from './echo.ts';
import { openPhysicalPort } from './open-port.ts';
import { type StopOptions, Stopwatch } from './stop.ts';
import { type Interrupts, VF_MAX, type VfSettings } from './values.ts';

export interface ShareOptions extends StopOptions, DeviceAccess {
  readonly vf?: readonly VfSettings[] | undefined;
  readonly ip?: Uint8Array | undefined;
  readonly interrupts: Interrupts;
  readonly signal: AbortSignal;
  /** Called when it serves. */
  readonly ready: (line: string) => void;
  /** Called for each event. */
  readonly say: (line: string) => void;
}

/** The words for events of the driver. */
const sentences: { readonly [K in PortEvent['kind']]?: (event: Extract<PortEvent, { kind: K }>) => string } = {
  link: ({ link }) => (link.up ? `link up, ${link.speed} Mbit/s` : 'link down'),
  reset: ({ reason }) => `the card is reset: ${reason}`,
  recovered: () => 'the card works again',
  failed: ({ error }) => `the card does not come back: ${error.message}`,
  gone: ({ reason }) => `the card is gone: ${reason}`,
  vfs: ({ count }) => `${count} virtual functions are enabled`,
  'vf-started': ({ vf, mac }) => `VF ${vf}: its driver has started${mac === '' ? ', without an address' : `, ${mac}`}`,
  'vf-reset': ({ vf }) => `VF ${vf}: reset`,
  'vf-refused': ({ vf, request, reason }) => `VF ${vf}: ${request} refused: ${reason}`,
  'vf-spoofed': ({ queues }) => `queues ${bitsOf(queues)} sent frames of another station or VLAN, which were dropped`,
};

function sentenceOf<K extends PortEvent['kind']>(event: Extract<PortEvent, { kind: K }>): string | null {
  return sentences[event.kind as K]?.(event) ?? null;
}

const bitsOf = (set: number) =>
  Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => ((set >>> bit) & 1) === 1)
    .join(', ');

/** @returns the line for people */
export async function share(address: string, options: ShareOptions): Promise<string> {
  const { vf: wanted = [], ip = null, interrupts, signal, ready, say } = options;
  await using port = await openPhysicalPort(address, { virtualFunctions: true, interrupts, ...accessIn(options) });
  using stop = new Stopwatch(options, signal);
  using _events = port.on((event) => {
    const sentence = sentenceOf(event);
    if (sentence !== null) say(sentence);
    if (event.kind === 'gone' || event.kind === 'failed') stop.end();
  });
  settle(port.virtualFunctions, wanted);
  ready(`${port.mac} shares its card; ${port.virtualFunctions.count} virtual functions are enabled`);
  const counts = await answerFrames(port, { ip, swap: false }, stop);
  await port.ready();
  const served = port.virtualFunctions.all;
  const requests = served.reduce((sum, each) => sum + each.requests, 0);
  const refused = served.reduce((sum, each) => sum + each.refused, 0);
  return `${requests} requests of virtual functions served, ${refused} of them refused; ${answersLine(counts)}`;
}

/** Every virtual function has an address before its driver asks for one. */
function settle(functions: VirtualFunctions, wanted: readonly VfSettings[]): void {
  for (let vf = 0; vf <= VF_MAX; vf++) {
    const { mac, vlan, spoofCheck, trust } = Object.assign({}, ...wanted.filter((each) => each.vf === vf)) as Partial<VfSettings>;
    functions.setMac(vf, mac ?? randomStation());
    if (vlan !== undefined) functions.setVlan(vf, vlan);
    if (spoofCheck !== undefined) functions.setSpoofCheck(vf, spoofCheck);
    if (trust !== undefined) functions.setTrust(vf, trust);
  }
}

/** A locally administered address (IEEE 802, 8.4). */
function randomStation(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = (bytes[0]! & 0xfc) | 2;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
