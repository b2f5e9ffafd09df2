/** Names for class codes that models use: base class, sub-class, programming interface. Any other can be given as a number. */
export const classCodes = {
  unclassified: 0x00ff00,
  scsi: 0x010000,
  sata: 0x010601,
  nvme: 0x010802,
  ethernet: 0x020000,
  network: 0x028000,
  display: 0x038000,
  audio: 0x040100,
  multimedia: 0x048000,
  ram: 0x050000,
  memory: 0x058000,
  serial: 0x070002,
  communication: 0x078000,
  timer: 0x080200,
  system: 0x088000,
  input: 0x098000,
  usb: 0x0c0330,
  crypto: 0x108000,
  'signal-processing': 0x118000,
  accelerator: 0x120000,
} as const;

export type ClassName = keyof typeof classCodes;
