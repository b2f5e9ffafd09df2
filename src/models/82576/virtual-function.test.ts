import { describe, expect, it } from 'vitest';
import { Ctrl, CtrlExt, Gpie, Icr, Ivar, Reg, Status, VfReg } from '../../abi/82576.ts';
import { PfMailbox, VfMailbox } from '../../abi/82576-mailbox.ts';
import type { Model } from '../../abi/device-host.ts';
import { TestHost } from '../kit/test-host.ts';
import { intel82576 } from './82576.ts';
import { registerMap } from './virtual-function.ts';

/** A function, and its registers as its driver has them. */
class Side {
  readonly host = new TestHost({ mode: 'msix', vectors: 10 });
  model!: Model;

  read(offset: number): number {
    return this.model.read(0, offset, 4);
  }

  write(offset: number, value: number): void {
    this.model.write(0, offset, 4, value);
  }
}

function card(vfs = 2): { pf: Side; vfs: Side[] } {
  const declared = intel82576({ mac: '52:54:00:12:34:56' });
  const pf = new Side();
  pf.model = declared.create(pf.host);
  const sides = Array.from({ length: vfs }, (_, index) => {
    const vf = new Side();
    vf.model = declared.sriov!.vf.create(vf.host, index, pf.model);
    return vf;
  });
  // That functions are new is no news for the tests.
  pf.write(Reg.VFLRE, 0xff);
  pf.read(Reg.ICR);
  return { pf, vfs: sides };
}

describe('7.10.2.9.1: the mailbox', () => {
  it('is words that both sides see, and no other VF', () => {
    const { pf, vfs } = card();
    for (let i = 0; i < 16; i++) vfs[1]!.write(VfReg.VMBMEM + i * 4, 0x100 + i);
    expect(Array.from({ length: 16 }, (_, i) => pf.read(Reg.VMBMEM + 64 + i * 4))).toEqual(Array.from({ length: 16 }, (_, i) => 0x100 + i));
    expect(Array.from({ length: 16 }, (_, i) => vfs[0]!.read(VfReg.VMBMEM + i * 4))).toEqual(new Array(16).fill(0));
    pf.write(Reg.VMBMEM + 64, 7);
    expect(vfs[1]!.read(VfReg.VMBMEM)).toBe(7);
    // Behind its 16 words there is nothing.
    vfs[0]!.write(VfReg.VMBMEM + 64, 9);
    expect([pf.read(Reg.VMBMEM + 64), vfs[0]!.read(VfReg.VMBMEM + 64)]).toEqual([7, 0]);
  });

  it('belongs to the side that took it first (VFU, PFU)', () => {
    const { pf, vfs } = card();
    const [vf] = vfs as [Side];
    vf.write(VfReg.VFMAILBOX, VfMailbox.VFU);
    pf.write(Reg.PFMAILBOX, PfMailbox.PFU);
    expect(pf.read(Reg.PFMAILBOX)).toBe(PfMailbox.VFU);
    vf.write(VfReg.VFMAILBOX, 0);
    pf.write(Reg.PFMAILBOX, PfMailbox.PFU);
    vf.write(VfReg.VFMAILBOX, VfMailbox.VFU);
    expect([pf.read(Reg.PFMAILBOX), vf.read(VfReg.VFMAILBOX) & (VfMailbox.VFU | VfMailbox.PFU)]).toEqual([PfMailbox.PFU, VfMailbox.PFU]);
  });

  it('is taken from a VF that keeps it by RVFU, with its requests', () => {
    const { pf, vfs } = card();
    vfs[1]!.write(VfReg.VFMAILBOX, VfMailbox.VFU | VfMailbox.REQ);
    expect(pf.read(Reg.MBVFICR)).toBe(2);
    pf.write(Reg.PFMAILBOX + 4, PfMailbox.RVFU);
    expect([pf.read(Reg.PFMAILBOX + 4), pf.read(Reg.MBVFICR)]).toEqual([0, 0]);
  });

  it('rings at the PF: MBVFICR, and ICR.VMMB unless MBVFIMR masks it', () => {
    const { pf, vfs } = card();
    vfs[1]!.write(VfReg.VFMAILBOX, VfMailbox.REQ);
    vfs[0]!.write(VfReg.VFMAILBOX, VfMailbox.ACK);
    expect(pf.read(Reg.MBVFICR)).toBe(0x1_0002);
    expect(pf.read(Reg.ICR) & Icr.VMMB).toBe(Icr.VMMB);
    pf.write(Reg.MBVFICR, 0x1_0002);
    pf.write(Reg.MBVFIMR, 1);
    vfs[1]!.write(VfReg.VFMAILBOX, VfMailbox.REQ);
    expect([pf.read(Reg.MBVFICR), pf.read(Reg.ICR) & Icr.VMMB]).toEqual([2, 0]);
    // REQ and ACK are bells and not bits.
    expect(vfs[1]!.read(VfReg.VFMAILBOX) & 3).toBe(0);
  });

  it('rings at the VF: PFSTS and PFACK, which a read clears, and the vector of VTIVAR_MISC', () => {
    const { pf, vfs } = card();
    pf.write(Reg.GPIE, Gpie.MULTIPLE_MSIX);
    const [vf, other] = vfs as [Side, Side];
    vf.write(VfReg.VTIVAR_MISC, Ivar.VALID | 2);
    vf.write(VfReg.VTEIMS, 7);
    vf.write(VfReg.VTEIAC, 7);
    pf.write(Reg.PFMAILBOX, PfMailbox.STS | PfMailbox.ACK);
    expect(vf.host.irqEvents).toEqual(['trigger 2']);
    expect(other.host.irqEvents).toEqual([]);
    expect(vf.read(VfReg.VFMAILBOX)).toBe(VfMailbox.PFSTS | VfMailbox.PFACK);
    expect(vf.read(VfReg.VFMAILBOX)).toBe(0);
    expect(pf.read(Reg.PFMAILBOX)).toBe(0);
  });

  it('a storm of requests costs one bit and no interrupt beyond the first that is not read', () => {
    const { pf, vfs } = card();
    pf.write(Reg.GPIE, Gpie.MULTIPLE_MSIX);
    pf.write(Reg.IVAR_MISC, Ivar.VALID << 8);
    pf.write(Reg.EIMS, 1);
    pf.write(Reg.IMS, Icr.VMMB);
    for (let i = 0; i < 100_000; i++) vfs[0]!.write(VfReg.VFMAILBOX, VfMailbox.REQ | VfMailbox.ACK);
    expect(pf.host.irqEvents).toHaveLength(1);
    expect(pf.read(Reg.MBVFICR)).toBe(0x1_0001);
  });
});

describe('4.6.11.2: resets, as the other side sees them', () => {
  it('of the PF: RSTI until CTRL_EXT.PFRSTD, then RSTD once', () => {
    const { pf, vfs } = card();
    pf.write(Reg.CTRL, Ctrl.RST);
    expect(vfs.map((vf) => vf.read(VfReg.VFMAILBOX))).toEqual([VfMailbox.RSTI, VfMailbox.RSTI]);
    expect(pf.read(Reg.STATUS) & Status.PF_RST_DONE).toBe(0);
    // Pools of functions are off; those of the PF are on.
    expect([pf.read(Reg.VFRE), pf.read(Reg.VFTE)]).toEqual([0xfc, 0xfc]);
    pf.write(Reg.CTRL_EXT, CtrlExt.PFRSTD);
    expect(pf.read(Reg.STATUS) & Status.PF_RST_DONE).toBe(Status.PF_RST_DONE);
    expect(vfs[0]!.read(VfReg.VFMAILBOX)).toBe(VfMailbox.RSTD);
    expect(vfs[0]!.read(VfReg.VFMAILBOX)).toBe(0);
  });

  it.each(['VTCTRL.RST', 'FLR'] as const)('of a VF by %s: VFLRE, ICR.VMMB, its queues off', (kind) => {
    const { pf, vfs } = card();
    pf.write(Reg.VFRE, 0xff);
    pf.write(Reg.VFTE, 0xff);
    vfs[1]!.write(VfReg.VFMAILBOX, VfMailbox.VFU);
    if (kind === 'FLR') vfs[1]!.model.reset();
    else vfs[1]!.write(VfReg.VTCTRL, Ctrl.RST);
    expect([pf.read(Reg.VFLRE), pf.read(Reg.VFRE), pf.read(Reg.VFTE)]).toEqual([2, 0xfd, 0xfd]);
    expect(pf.read(Reg.ICR) & Icr.VMMB).toBe(Icr.VMMB);
    expect(vfs[1]!.read(VfReg.VFMAILBOX)).toBe(0);
    pf.write(Reg.VFLRE, 2);
    expect(pf.read(Reg.VFLRE)).toBe(0);
  });

  it('of a VF that goes: its queues are the PF’s again, and a new one is new', () => {
    const { pf, vfs } = card();
    vfs[1]!.write(VfReg.VTIVAR, 0x8180);
    vfs[1]!.write(VfReg.RDBAL, 0x1000);
    vfs[1]!.write(VfReg.VMBMEM, 0x1234);
    vfs[1]!.model.dispose!();
    expect((pf.read(Reg.STATUS) & Status.NUM_VFS) >>> Status.NUM_VFS_SHIFT).toBe(1);
    expect(pf.read(Reg.VFLRE)).toBe(2);
    expect([pf.read(Reg.VTIVAR + 4), pf.read(Reg.RDBAL + 0x40), pf.read(Reg.VMBMEM + 64)]).toEqual([0, 0, 0]);
  });
});

describe('8.26: registers of a VF', () => {
  it('reach its own queues, vectors and counters alone', () => {
    const targets = [0, 1, 2, 3, 4, 5, 6, 7].map((vf) => [...registerMap(vf)].filter((register) => register !== 0xffff_ffff));
    for (const [vf, registers] of targets.entries()) {
      expect(registers.length).toBe(targets[0]!.length);
      for (const register of registers) {
        const others = targets.filter((_, other) => other !== vf).filter((list) => list.includes(register));
        expect(others, `register ${register.toString(16)} of VF ${vf}`).toEqual([]);
      }
    }
    expect(targets[3]).toContain(Reg.RDBAL + 3 * 0x40);
    expect(targets[3]).toContain(Reg.RDBAL + 11 * 0x40);
    expect(targets[3]).toContain(Reg.EITR + 13 * 4);
  });

  it('are three vectors, from 22 down (7.3.1.1)', () => {
    const { pf, vfs } = card();
    pf.write(Reg.GPIE, Gpie.MULTIPLE_MSIX);
    vfs[1]!.write(VfReg.VTEIMS, 0xff);
    expect(vfs[1]!.read(VfReg.VTEIMS)).toBe(7);
    expect(vfs[0]!.read(VfReg.VTEIMS)).toBe(0);
    vfs[1]!.write(VfReg.VTEICS, 2);
    expect(vfs[1]!.host.irqEvents).toEqual(['trigger 1']);
    expect([vfs[0]!.host.irqEvents, pf.host.irqEvents]).toEqual([[], []]);
  });

  it('are of the port where they are no danger: link and free-running timer, to read', () => {
    const { pf, vfs } = card();
    const before = pf.read(Reg.STATUS);
    vfs[0]!.write(VfReg.STATUS, 0);
    expect(pf.read(Reg.STATUS)).toBe(before);
    expect(vfs[0]!.read(VfReg.STATUS) & ~(Status.FD | Status.LU | Status.SPEED | Status.LAN_ID)).toBe(0);
  });

  it('are nothing elsewhere: a VF that writes everywhere changes no register of PF or neighbour', () => {
    const { pf, vfs } = card(5);
    // Its queues, 4 and 12, have no second addresses.
    const bad = vfs[4]!;
    const own = new Set([...registerMap(4)]);
    const snapshot = (): number[] => {
      const values: number[] = [];
      // Counters and causes change by reads, and its own reset is VFLRE's and VFRE's.
      for (let offset = 0xc00; offset < 0x1_0800; offset += 4) {
        const quiet = offset < 0x1500 || offset > 0x1584;
        const counted = offset >= 0x4000 && offset < 0x5000;
        if (quiet && !counted && !own.has(offset) && !(offset >= 0xc80 && offset < 0xc94)) values.push(pf.read(offset));
      }
      return values;
    };
    pf.write(Reg.RCTL, 0);
    // The first read of SWSM takes a semaphore.
    snapshot();
    const first = snapshot();
    for (let offset = 0; offset < 0x4000; offset += 4) if (offset !== VfReg.VFMAILBOX) bad.write(offset, 0xffff_ffff);
    const second = snapshot();
    const changed = second.filter((value, i) => value !== first[i]);
    expect(changed).toEqual([]);
    expect(vfs[3]!.read(VfReg.VMBMEM)).toBe(0);
  });
});
