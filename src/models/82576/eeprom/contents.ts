/**
 * Contents of a new card's EEPROM (chapter 6): its address, identifiers, and settings that
 * drivers read. All other words are erased. Words 0 to 3F add up to BABA.
 */
import { I82576_DEVICE, I82576_VF_DEVICE, INTEL_VENDOR } from '../../../abi/82576.ts';
import { EEPROM_SUM, EEPROM_WORDS, EepromWord } from '../../../abi/82576-phy.ts';

const ERASED = 0xffff;

/** Words that are not erased, by address. */
const words: readonly (readonly [word: number, value: number, why: string])[] = [
  [EepromWord.COMPATIBILITY, 0x0000, '6.2.2: no option of a vendor'],
  [0x04, ERASED, '6.2.3: port identification LED: the default blink'],
  [0x05, 0x1000, '6.2.4: image revision 1.0'],
  [EepromWord.PBA_0, 0x0000, '6.2.5: no printed board: assembly 000000-000'],
  [EepromWord.PBA_1, 0x0000, '6.2.5'],
  [EepromWord.INIT_CONTROL_1, 0x002b, '6.2.6: subsystem and device ids are loaded from here'],
  [EepromWord.SUBSYSTEM_ID, 0x0000, '6.2.7'],
  [EepromWord.SUBSYSTEM_VENDOR_ID, INTEL_VENDOR, '6.2.8'],
  [EepromWord.DEVICE_ID, I82576_DEVICE, '6.2.9'],
  [EepromWord.INIT_CONTROL_2, 0x70c3, '6.2.11: signature 01b is bits 15:14 of word 12'],
  [0x10, 0x0004, '6.2.12: software defined pins'],
  [0x11, I82576_DEVICE, '6.2.13: device id of port 1'],
  [0x12, 0x5c00, '6.2.14: EEPROM size, and the signature 01b of a valid image'],
  [0x14, 0x2880, '6.2.15: initialization control 3'],
  [0x15, 0x0014, '6.2.16: PCIe completion timeout'],
  [0x16, 0x4a40, '6.2.17: 10 MSI-X vectors'],
  [0x18, 0x6cfb, '6.2.19: PCIe initialization 1'],
  [0x19, 0xc7b0, '6.2.20: PCIe initialization 2'],
  [0x1a, 0x0abe, '6.2.21: PCIe initialization 3'],
  [0x1b, 0x0403, '6.2.22: PCIe control'],
  [0x1c, 0x0783, '6.2.23: LEDs 1 and 3'],
  [0x1e, 0x0001, '6.2.25: device revision'],
  [0x1f, 0x0602, '6.2.26: LEDs 0 and 2'],
  [0x20, 0x0004, '6.2.27: software defined pins of port 1'],
  [0x21, 0x0020, '6.2.28: functions'],
  [0x22, 0x0000, '6.2.29: LAN power consumption'],
  [EepromWord.INIT_CONTROL_3, 0x2080, '6.2.31'],
  [0x25, 0x00f5, '6.2.32: I/O virtualization, 8 virtual functions'],
  [0x26, I82576_VF_DEVICE, '6.2.33: device id of virtual functions'],
  [0x2f, ERASED, '6.2.37: no vital product data'],
  [0x37, ERASED, '6.2.42: no alternate address'],
];

/** @param mac six bytes */
export function newEeprom(mac: Uint8Array): Uint16Array {
  const eeprom = new Uint16Array(EEPROM_WORDS).fill(ERASED);
  for (let i = 0; i < 3; i++) eeprom[EepromWord.MAC + i] = mac[2 * i]! | (mac[2 * i + 1]! << 8);
  for (const [word, value] of words) eeprom[word] = value;
  let sum = 0;
  for (let word = 0; word < EepromWord.CHECKSUM; word++) sum += eeprom[word]!;
  eeprom[EepromWord.CHECKSUM] = EEPROM_SUM - sum;
  return eeprom;
}
