-- Wireshark dissector for the vfio-user protocol, in captures made by `vfio trace --write`: link type USER0, one message a packet.
--
--   wireshark -X lua_script:tools/vfio-user.lua FILE.pcapng
--   tshark    -X lua_script:tools/vfio-user.lua -r FILE.pcapng -V
--
-- Or put this file into Wireshark's folder of personal plugins (Help, About, Folders). All integers are little-endian.

local proto = Proto("vfio-user", "vfio-user protocol")

local commands = {
  [1] = "VERSION", [2] = "DMA_MAP", [3] = "DMA_UNMAP", [4] = "DEVICE_GET_INFO", [5] = "DEVICE_GET_REGION_INFO",
  [6] = "DEVICE_GET_REGION_IO_FDS", [7] = "DEVICE_GET_IRQ_INFO", [8] = "DEVICE_SET_IRQS", [9] = "REGION_READ", [10] = "REGION_WRITE",
  [11] = "DMA_READ", [12] = "DMA_WRITE", [13] = "DEVICE_RESET", [14] = "DIRTY_PAGES", [15] = "REGION_WRITE_MULTI",
  [16] = "DEVICE_FEATURE", [17] = "MIG_DATA_READ", [18] = "MIG_DATA_WRITE", [19] = "MIG_GET_PRECOPY_INFO",
}
local regions = {
  [0] = "BAR0", [1] = "BAR1", [2] = "BAR2", [3] = "BAR3", [4] = "BAR4", [5] = "BAR5", [6] = "ROM", [7] = "CONFIG", [8] = "VGA",
}
local irqs = { [0] = "INTx", [1] = "MSI", [2] = "MSI-X", [3] = "ERR", [4] = "REQ" }
local types = { [0] = "command", [1] = "reply" }
local features = {
  [0] = "PCI_VF_TOKEN", [1] = "MIGRATION", [2] = "MIG_DEVICE_STATE", [3] = "LOW_POWER_ENTRY", [4] = "LOW_POWER_ENTRY_WITH_WAKEUP",
  [5] = "LOW_POWER_EXIT", [6] = "DMA_LOGGING_START", [7] = "DMA_LOGGING_STOP", [8] = "DMA_LOGGING_REPORT", [9] = "MIG_DATA_SIZE",
  [10] = "BUS_MASTER", [11] = "DMA_BUF",
}

local f = {
  id = ProtoField.uint16("vfio-user.id", "Message id"),
  command = ProtoField.uint16("vfio-user.command", "Command", base.DEC, commands),
  size = ProtoField.uint32("vfio-user.size", "Message size"),
  flags = ProtoField.uint32("vfio-user.flags", "Flags", base.HEX),
  type = ProtoField.uint32("vfio-user.flags.type", "Type", base.DEC, types, 0xf),
  no_reply = ProtoField.bool("vfio-user.flags.no_reply", "No reply wanted", 32, nil, 0x10),
  is_error = ProtoField.bool("vfio-user.flags.error", "Error", 32, nil, 0x20),
  errno = ProtoField.uint32("vfio-user.errno", "errno"),
  major = ProtoField.uint16("vfio-user.version.major", "Major"),
  minor = ProtoField.uint16("vfio-user.version.minor", "Minor"),
  json = ProtoField.string("vfio-user.version.capabilities", "Capabilities"),
  argsz = ProtoField.uint32("vfio-user.argsz", "argsz"),
  op_flags = ProtoField.uint32("vfio-user.op_flags", "Flags of the operation", base.HEX),
  address = ProtoField.uint64("vfio-user.address", "I/O address", base.HEX),
  length = ProtoField.uint64("vfio-user.length", "Length", base.HEX),
  offset = ProtoField.uint64("vfio-user.offset", "Offset", base.HEX),
  region = ProtoField.uint32("vfio-user.region", "Region", base.DEC, regions),
  count = ProtoField.uint32("vfio-user.count", "Count"),
  count64 = ProtoField.uint64("vfio-user.count64", "Count"),
  cap_offset = ProtoField.uint32("vfio-user.cap_offset", "Capabilities at"),
  num_regions = ProtoField.uint32("vfio-user.num_regions", "Regions"),
  num_irqs = ProtoField.uint32("vfio-user.num_irqs", "Interrupt indexes"),
  irq = ProtoField.uint32("vfio-user.irq", "Interrupt index", base.DEC, irqs),
  start = ProtoField.uint32("vfio-user.start", "First vector"),
  feature = ProtoField.uint32("vfio-user.feature", "Feature", base.DEC, features, 0xffff),
  entry = ProtoField.bytes("vfio-user.entry", "Entry"),
  data = ProtoField.bytes("vfio-user.data", "Data"),
}
proto.fields = f

local malformed = ProtoExpert.new("vfio-user.malformed", "Malformed message", expert.group.MALFORMED, expert.severity.ERROR)
proto.experts = { malformed }

local function name_of(table, value, otherwise)
  return table[value] or string.format("%s %d", otherwise, value)
end

local function hex64(range)
  return "0x" .. string.gsub(tostring(range:le_uint64():tohex()), "^0+(%x)", "%1")
end

-- Each adds what it finds to the tree and gives a few words for the summary. `p` is the payload, `n` its length.
local payloads = {}

payloads[1] = function(p, n, tree)
  if n < 4 then return nil end
  tree:add_le(f.major, p(0, 2))
  tree:add_le(f.minor, p(2, 2))
  if n > 4 then
    -- A client's VF token is nobody's business. (vfio trace writes none into its files.)
    local text = string.gsub(p(4, n - 4):string(), '(vf_token"%s*:%s*")([^"]*)', function(key, value) return key .. string.rep("*", #value) end)
    tree:add(f.json, p(4, n - 4), text)
  end
  return string.format("%d.%d", p(0, 2):le_uint(), p(2, 2):le_uint())
end

payloads[2] = function(p, n, tree, reply)
  if reply then return "" end
  if n < 32 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.offset, p(8, 8))
  tree:add_le(f.address, p(16, 8))
  tree:add_le(f.length, p(24, 8))
  return hex64(p(16, 8)) .. ", length " .. hex64(p(24, 8))
end

payloads[3] = function(p, n, tree)
  if n < 24 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.address, p(8, 8))
  tree:add_le(f.length, p(16, 8))
  if n > 24 then tree:add(f.data, p(24, n - 24)) end
  if p(4, 4):le_uint() == 2 then return "all" end
  return hex64(p(8, 8)) .. ", length " .. hex64(p(16, 8))
end

payloads[4] = function(p, n, tree)
  if n < 16 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.num_regions, p(8, 4))
  tree:add_le(f.num_irqs, p(12, 4))
  return ""
end

payloads[5] = function(p, n, tree, reply)
  if n < 32 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.region, p(8, 4))
  tree:add_le(f.cap_offset, p(12, 4))
  tree:add_le(f.length, p(16, 8))
  tree:add_le(f.offset, p(24, 8))
  if n > 32 then tree:add(f.data, p(32, n - 32)) end
  local words = name_of(regions, p(8, 4):le_uint(), "region")
  if reply then words = words .. ", length " .. hex64(p(16, 8)) end
  return words
end

payloads[6] = function(p, n, tree)
  if n < 16 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.region, p(8, 4))
  tree:add_le(f.count, p(12, 4))
  if n > 16 then tree:add(f.data, p(16, n - 16)) end
  return name_of(regions, p(8, 4):le_uint(), "region")
end

payloads[7] = function(p, n, tree)
  if n < 16 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.irq, p(8, 4))
  tree:add_le(f.count, p(12, 4))
  return name_of(irqs, p(8, 4):le_uint(), "interrupt index")
end

payloads[8] = function(p, n, tree, reply)
  if reply then return "" end
  if n < 20 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.irq, p(8, 4))
  tree:add_le(f.start, p(12, 4))
  tree:add_le(f.count, p(16, 4))
  if n > 20 then tree:add(f.data, p(20, n - 20)) end
  return string.format("%s, %d from %d", name_of(irqs, p(8, 4):le_uint(), "interrupt index"), p(16, 4):le_uint(), p(12, 4):le_uint())
end

local function region_access(p, n, tree)
  -- A count of 0 is answered with the header alone.
  if n == 0 then return "" end
  if n < 16 then return nil end
  tree:add_le(f.offset, p(0, 8))
  tree:add_le(f.region, p(8, 4))
  tree:add_le(f.count, p(12, 4))
  if n > 16 then tree:add(f.data, p(16, n - 16)) end
  return string.format("%s+%s, %d bytes", name_of(regions, p(8, 4):le_uint(), "region"), hex64(p(0, 8)), p(12, 4):le_uint())
end
payloads[9] = region_access
payloads[10] = region_access

local function dma_access(p, n, tree)
  -- QEMU answers a DMA_WRITE with the header alone.
  if n == 0 then return "" end
  if n < 16 then return nil end
  tree:add_le(f.address, p(0, 8))
  tree:add_le(f.count, p(8, 4))
  if n > 16 then tree:add(f.data, p(16, n - 16)) end
  return string.format("%s, %d bytes", hex64(p(0, 8)), p(8, 4):le_uint())
end
payloads[11] = dma_access
payloads[12] = dma_access

payloads[13] = function() return "" end

payloads[15] = function(p, n, tree)
  if n < 8 then return nil end
  tree:add_le(f.count64, p(0, 8))
  local at = 8
  while at + 24 <= n do
    tree:add(f.entry, p(at, 24))
    at = at + 24
  end
  return tostring(p(0, 8):le_uint64()) .. " writes"
end

payloads[16] = function(p, n, tree)
  if n < 8 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.op_flags, p(4, 4))
  tree:add_le(f.feature, p(4, 4))
  if n > 8 and p(4, 2):le_uint() ~= 0 then tree:add(f.data, p(8, n - 8)) end
  return name_of(features, p(4, 2):le_uint(), "feature")
end

local function mig_data(p, n, tree, reply)
  if reply and n == 0 then return "" end
  if n < 8 then return nil end
  tree:add_le(f.argsz, p(0, 4))
  tree:add_le(f.count, p(4, 4))
  if n > 8 then tree:add(f.data, p(8, n - 8)) end
  return string.format("%d bytes", p(4, 4):le_uint())
end
payloads[17] = mig_data
payloads[18] = mig_data

function proto.dissector(buffer, pinfo, root)
  local n = buffer:len()
  pinfo.cols.protocol = "vfio-user"
  local tree = root:add(proto, buffer())
  if n < 16 then
    tree:add_proto_expert_info(malformed, string.format("%d bytes, less than a header", n))
    return n
  end
  local command = buffer(2, 2):le_uint()
  local flags = buffer(8, 4):le_uint()
  local reply = flags % 16 == 1
  local failed = math.floor(flags / 32) % 2 == 1
  local name = name_of(commands, command, "command")

  tree:add_le(f.id, buffer(0, 2))
  tree:add_le(f.command, buffer(2, 2))
  tree:add_le(f.size, buffer(4, 4))
  local bits = tree:add_le(f.flags, buffer(8, 4))
  bits:add_le(f.type, buffer(8, 4))
  bits:add_le(f.no_reply, buffer(8, 4))
  bits:add_le(f.is_error, buffer(8, 4))
  tree:add_le(f.errno, buffer(12, 4))

  local words = ""
  if failed then
    words = string.format("errno %d", buffer(12, 4):le_uint())
  elseif n > 16 or reply then
    local dissect = payloads[command]
    local payload = n > 16 and buffer(16):tvb() or nil
    if dissect ~= nil then
      words = dissect(payload, n - 16, tree, reply)
      if words == nil then
        tree:add_proto_expert_info(malformed, string.format("%s with %d bytes of payload", name, n - 16))
        words = "malformed"
      end
    elseif payload ~= nil then
      tree:add(f.data, payload())
    end
  end
  local kind = reply and " reply" or ""
  local summary = string.format("#%d %s%s %s", buffer(0, 2):le_uint(), name, kind, words)
  pinfo.cols.info = summary
  tree:append_text(", " .. summary)
  return n
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, proto)
