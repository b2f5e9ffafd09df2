/** Registers that a physical function's driver writes once after each reset (4.6). */
import { Mrqc, RETA_ENTRIES, Reg, Rfctl, Rxcsum } from '../../abi/82576.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { FRAME_OVERHEAD, type PortSettings } from './options.ts';

/** The longest pause, in 802.3's quanta (8.5.4). */
const PAUSE_TIME = 0xffff;
/** RXPBS has 64 KiB: pause frames go out with 16 KiB left, and end with 32 KiB left (8.5.5). */
const HIGH_WATER = 0xc000;
const LOW_WATER = 0x8000;
const FLOW_CONTROL_LOW = 0x00c2_8001;
const FLOW_CONTROL_HIGH = 0x0100;
const FLOW_CONTROL_TYPE = 0x8808;

/** Pause frames: their address and type, and when they go out (8.5). */
export function startFlowControl(registers: RegisterAccess): void {
  registers.write32(Reg.FCAL, FLOW_CONTROL_LOW);
  registers.write32(Reg.FCAH, FLOW_CONTROL_HIGH);
  registers.write32(Reg.FCT, FLOW_CONTROL_TYPE);
  registers.write32(Reg.FCTTV, PAUSE_TIME);
  registers.write32(Reg.FCRTH0, HIGH_WATER);
  registers.write32(Reg.FCRTL0, LOW_WATER);
}

/** 4.5.9, 7.1.1.7: long frames, checksums, and which queue gets which frame. */
export function startReceiver(registers: RegisterAccess, settings: PortSettings, pools: boolean): void {
  registers.write32(Reg.RLPML, settings.mtu + FRAME_OVERHEAD);
  registers.write32(Reg.RFCTL, Rfctl.NFSW_DIS | Rfctl.NFSR_DIS);
  registers.write32(Reg.RXCSUM, Rxcsum.PCSD | (settings.checksums ? Rxcsum.IPOFLD | Rxcsum.TUOFLD : 0));
  const key = new DataView(settings.rssKey.buffer, settings.rssKey.byteOffset, settings.rssKey.length);
  for (let i = 0; i < key.byteLength; i += 4) registers.write32(Reg.RSSRK + i, key.getUint32(i, true));
  for (let i = 0; i < RETA_ENTRIES; i += 4) {
    const entry = (at: number) => (settings.indirection === null ? at % settings.queues : settings.indirection[at]!);
    registers.write32(Reg.RETA + i, (entry(i) | (entry(i + 1) << 8) | (entry(i + 2) << 16) | (entry(i + 3) << 24)) >>> 0);
  }
  const rss = settings.rssFields !== 0;
  const mode = pools ? (rss ? Mrqc.VMDQ_RSS : Mrqc.VMDQ) : rss ? Mrqc.RSS : Mrqc.NONE;
  registers.write32(Reg.MRQC, mode | settings.rssFields);
}
