import { expect, it } from 'vitest';
import { Ctrl, Eecd, Eerd, Mdic, Reg, Status } from '../../abi/82576.ts';
import { EEPROM_SUM, PHY_ID } from '../../abi/82576-phy.ts';
import { TestHost } from '../kit/test-host.ts';
import { intel82576 } from './82576.ts';

function plug(mac = '52:54:00:12:34:56') {
  const host = new TestHost();
  const model = host.plug(intel82576({ mac }));
  const read = (offset: number) => model.read(0, offset, 4);
  const write = (offset: number, value: number) => model.write(0, offset, 4, value);
  const word = (address: number) => {
    write(Reg.EERD, (address << Eerd.ADDR_SHIFT) | Eerd.START);
    expect(read(Reg.EERD) & Eerd.DONE).toBe(Eerd.DONE);
    return read(Reg.EERD) >>> Eerd.DATA_SHIFT;
  };
  const phy = (register: number) => {
    write(Reg.MDIC, (register << Mdic.REGADD_SHIFT) | (1 << Mdic.PHYADD_SHIFT) | Mdic.OP_READ);
    expect(read(Reg.MDIC) & (Mdic.R | Mdic.E)).toBe(Mdic.R);
    return read(Reg.MDIC) & Mdic.DATA;
  };
  return { host, model, read, write, word, phy };
}

it('6.1 the EEPROM has the address, and its words 0 to 3F add up to BABA', () => {
  const { read, word } = plug();
  expect(read(Reg.EECD) & (Eecd.PRES | Eecd.AUTO_RD)).toBe(Eecd.PRES | Eecd.AUTO_RD);
  expect([word(0), word(1), word(2)]).toEqual([0x5452, 0x1200, 0x5634]);
  let sum = 0;
  for (let address = 0; address <= 0x3f; address++) sum = (sum + word(address)) & 0xffff;
  expect(sum).toBe(EEPROM_SUM);
});

it('8.25 MDIC reaches the PHY at address 1, and reports an error for another', () => {
  const { read, write, phy } = plug();
  expect([phy(2), phy(3)]).toEqual([PHY_ID.high, PHY_ID.low]);
  write(Reg.MDIC, (2 << Mdic.REGADD_SHIFT) | (2 << Mdic.PHYADD_SHIFT) | Mdic.OP_READ);
  expect(read(Reg.MDIC) & (Mdic.R | Mdic.E)).toBe((Mdic.R | Mdic.E) >>> 0);
});

it('8.2.1 a software reset is over at once, and leaves the EEPROM read', () => {
  const { read, write } = plug();
  write(Reg.LEDCTL, 0);
  write(Reg.CTRL, read(Reg.CTRL) | Ctrl.RST);
  expect([read(Reg.CTRL) & Ctrl.RST, read(Reg.EECD) & Eecd.AUTO_RD, read(Reg.LEDCTL) !== 0]).toEqual([0, Eecd.AUTO_RD, true]);
});

it('8.2.2 STATUS shows that DMA is off while CTRL keeps it off, and no link without a wire', () => {
  const { read, write, host } = plug();
  expect(read(Reg.STATUS) & Status.GIO_MASTER_EN).toBe(Status.GIO_MASTER_EN);
  write(Reg.CTRL, Ctrl.GIO_MASTER_DISABLE | Ctrl.SLU);
  host.clock.advance(1000);
  expect(read(Reg.STATUS) & (Status.GIO_MASTER_EN | Status.LU)).toBe(0);
});

it.each([
  ['52:54:00:12:34', /is "52:54:00:12:34"/],
  ['01:00:00:00:00:01', /no address of one station/],
  ['00:00:00:00:00:00', /no address of one station/],
])('house: the address %s is refused', (mac, why) => {
  expect(() => intel82576({ mac })).toThrow(why);
});
