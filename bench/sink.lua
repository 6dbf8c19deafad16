-- An S3 store that reads every body to its end and keeps none: only keys, sizes and ETags.
-- What it honours: If-None-Match: * on puts and completed uploads (412), Content-MD5 as the ETag.
-- What it does not look at: signatures, and the digests of files, which would take its machine's
-- time and not the client's. Digests of small bodies under _sensordrop/ it checks as Amazon's S3
-- does, so that a client that probes its store finds one that checks. The delay, if any, comes
-- after the body was read, as a distant store's answer would.

local ffi = require("ffi")
pcall(ffi.cdef, "unsigned char *SHA256(const unsigned char *data, size_t size, unsigned char *digest);")

local keys = ngx.shared.keys
local method = ngx.req.get_method()
local path = ngx.var.request_uri:match("^[^?]*")
local query = ngx.req.get_uri_args(50)
local headers = ngx.req.get_headers(0)
ngx.req.clear_header("If-None-Match") -- else nginx answers it by itself, with 304
local bucket, key = path:match("^/([^/]*)/?(.*)$")
local KEPT_BYTES = 4096 -- objects of ours under _sensordrop/ are kept up to this size: probes read them back

local function drop_body()
  local size = tonumber(headers["content-length"] or 0)
  if size == 0 then return 0 end
  local socket, trouble = ngx.req.socket()
  if not socket then
    ngx.log(ngx.ERR, "no body: ", trouble)
    return ngx.exit(500)
  end
  local left = size
  while left > 0 do
    local data, broken = socket:receive(math.min(left, 262144))
    if not data then
      ngx.log(ngx.ERR, "body broke off: ", broken)
      return ngx.exit(400)
    end
    left = left - #data
  end
  return size
end

local function answer(status, body)
  if ngx.var.delay_seconds ~= "0" then ngx.sleep(tonumber(ngx.var.delay_seconds)) end
  ngx.status = status
  ngx.header["x-amz-request-id"] = ngx.var.request_id
  if body then
    ngx.header["Content-Type"] = "application/xml"
    ngx.header["Content-Length"] = #body
    if method ~= "HEAD" then ngx.print(body) end
  else
    ngx.header["Content-Length"] = ngx.header["Content-Length"] or 0
  end
  return ngx.exit(ngx.OK)
end

local function xml(inner)
  return '<?xml version="1.0" encoding="UTF-8"?>\n' .. inner
end

local function refuse(status, code)
  return answer(status, xml("<Error><Code>" .. code .. "</Code><Message>the sink says so</Message></Error>"))
end

local function escaped(text)
  return (text:gsub("&", "&amp;"):gsub("<", "&lt;"):gsub(">", "&gt;"))
end

local function in_hex(bytes)
  return (bytes:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

-- The MD5 that the client sent, in hex; else something that nobody takes for an MD5.
local function etag()
  local sent = headers["content-md5"]
  local digest = sent and ngx.decode_base64(sent)
  if not digest then return "sink-" .. ngx.var.request_id end
  return in_hex(digest)
end

-- The code of the error that a body deserves which contradicts its digests; nil: it does not.
local function contradiction(body)
  local digest = ffi.new("unsigned char[32]")
  ffi.C.SHA256(body, #body, digest)
  digest = ffi.string(digest, 32)
  local signed = headers["x-amz-content-sha256"]
  if signed and #signed == 64 and signed ~= in_hex(digest) then return "XAmzContentSHA256Mismatch" end
  local md5 = headers["content-md5"]
  if md5 and md5 ~= ngx.encode_base64(ngx.md5_bin(body)) then return "BadDigest" end
  local sum = headers["x-amz-checksum-sha256"]
  if sum and sum ~= ngx.encode_base64(digest) then return "BadDigest" end
end

local function remember(size, tag, body)
  local note = size .. "|" .. tag .. "|" .. (headers["x-amz-meta-sha256"] or "") .. "|" .. (body or "")
  local stored, trouble
  if headers["if-none-match"] == "*" then
    stored, trouble = keys:safe_add("o" .. path, note)
    if trouble == "exists" then return false end
  else
    stored, trouble = keys:safe_set("o" .. path, note)
  end
  if not stored then
    ngx.log(ngx.ERR, "not remembered: ", trouble)
    ngx.exit(507)
  end
  return true
end

local function put()
  if headers["if-none-match"] == "*" and keys:get("o" .. path) then
    drop_body()
    return refuse(412, "PreconditionFailed")
  end
  local size, body
  if key:sub(1, 12) == "_sensordrop/" and tonumber(headers["content-length"] or 0) <= KEPT_BYTES then
    ngx.req.read_body()
    body = ngx.req.get_body_data() or ""
    size = #body
    local code = contradiction(body)
    if code then return refuse(400, code) end
  else
    size = drop_body()
  end
  local tag = etag()
  if not remember(size, tag, body) then return refuse(412, "PreconditionFailed") end
  ngx.header["ETag"] = '"' .. tag .. '"'
  return answer(200)
end

local function put_part()
  local size, tag = drop_body(), etag()
  keys:set("p" .. query.uploadId .. "/" .. query.partNumber, size .. "|" .. tag)
  keys:set("n" .. query.uploadId, math.max(keys:get("n" .. query.uploadId) or 0, tonumber(query.partNumber)))
  ngx.header["ETag"] = '"' .. tag .. '"'
  return answer(200)
end

local function each_part(upload, call)
  for number = 1, keys:get("n" .. upload) or 0 do
    local note = keys:get("p" .. upload .. "/" .. number)
    if note then call(number, note:match("^(%d+)|(.*)$")) end
  end
end

local function forget_parts(upload)
  each_part(upload, function(number) keys:delete("p" .. upload .. "/" .. number) end)
  keys:delete("n" .. upload)
end

local function create_upload()
  drop_body()
  local upload = ngx.var.request_id
  keys:set("n" .. upload, 0)
  return answer(200, xml("<InitiateMultipartUploadResult><Bucket>" .. bucket .. "</Bucket><Key>" .. escaped(ngx.unescape_uri(key))
    .. "</Key><UploadId>" .. upload .. "</UploadId></InitiateMultipartUploadResult>"))
end

local function complete_upload()
  drop_body()
  if not keys:get("n" .. query.uploadId) then return refuse(404, "NoSuchUpload") end
  local size, digests, plain = 0, {}, true
  each_part(query.uploadId, function(_, bytes, part)
    size, plain = size + bytes, plain and #part == 32
    digests[#digests + 1] = part:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  end)
  -- Like S3: the MD5 of the parts' MD5s. Where those are not known, nothing that looks like one.
  local tag = (plain and ngx.md5(table.concat(digests)) or "sink-" .. query.uploadId) .. "-" .. #digests
  if not remember(size, tag) then return refuse(412, "PreconditionFailed") end
  forget_parts(query.uploadId)
  return answer(200, xml("<CompleteMultipartUploadResult><Bucket>" .. bucket .. "</Bucket><Key>" .. escaped(ngx.unescape_uri(key))
    .. "</Key><ETag>&quot;" .. tag .. "&quot;</ETag></CompleteMultipartUploadResult>"))
end

local function list_parts()
  if not keys:get("n" .. query.uploadId) then return refuse(404, "NoSuchUpload") end
  local found = {}
  each_part(query.uploadId, function(number, bytes, tag)
    found[#found + 1] = "<Part><PartNumber>" .. number .. "</PartNumber><ETag>&quot;" .. tag .. "&quot;</ETag><Size>" .. bytes
      .. "</Size><LastModified>2025-09-01T00:00:00.000Z</LastModified></Part>"
  end)
  return answer(200, xml("<ListPartsResult><Bucket>" .. bucket .. "</Bucket><UploadId>" .. query.uploadId
    .. "</UploadId><IsTruncated>false</IsTruncated>" .. table.concat(found) .. "</ListPartsResult>"))
end

local function list_objects()
  local most = math.min(tonumber(query["max-keys"] or 1000), 1000)
  local prefix = type(query.prefix) == "string" and query.prefix or ""
  local after = query["continuation-token"] or query["start-after"] or ""
  local root, found = "o/" .. bucket .. "/", {}
  for _, name in ipairs(keys:get_keys(0)) do
    if name:sub(1, #root) == root then
      local plain = ngx.unescape_uri(name:sub(#root + 1))
      if plain:sub(1, #prefix) == prefix and plain > after then
        found[#found + 1] = { plain, name }
      end
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  local shown, last = {}, ""
  for number = 1, math.min(most, #found) do
    local size, tag = keys:get(found[number][2]):match("^(%d+)|([^|]*)")
    last = found[number][1]
    local name = query["encoding-type"] == "url" and ngx.escape_uri(last):gsub("%%2F", "/") or escaped(last)
    shown[number] = "<Contents><Key>" .. name .. "</Key><LastModified>2025-09-01T00:00:00.000Z</LastModified><ETag>&quot;" .. tag
      .. "&quot;</ETag><Size>" .. size .. "</Size><StorageClass>STANDARD</StorageClass></Contents>"
  end
  local more = #found > most
  return answer(200, xml("<ListBucketResult><Name>" .. bucket .. "</Name><Prefix>" .. escaped(prefix) .. "</Prefix><KeyCount>" .. #shown
    .. "</KeyCount><MaxKeys>" .. most .. "</MaxKeys>"
    .. (query["encoding-type"] == "url" and "<EncodingType>url</EncodingType>" or "")
    .. "<IsTruncated>" .. tostring(more) .. "</IsTruncated>"
    .. (more and "<NextContinuationToken>" .. escaped(last) .. "</NextContinuationToken>" or "")
    .. table.concat(shown) .. "</ListBucketResult>"))
end

-- HEAD and GET of one object. A body is there only for the small ones that are kept.
local function look()
  local note = keys:get("o" .. path)
  if not note then return refuse(404, method == "HEAD" and "NotFound" or "NoSuchKey") end
  local size, tag, sha256, body = note:match("^(%d+)|([^|]*)|([^|]*)|(.*)$")
  if method == "GET" and #body ~= tonumber(size) then return refuse(501, "NotImplemented") end
  ngx.header["ETag"] = '"' .. tag .. '"'
  ngx.header["Last-Modified"] = "Mon, 01 Sep 2025 00:00:00 GMT"
  ngx.header["Content-Length"] = size
  if sha256 ~= "" then ngx.header["x-amz-meta-sha256"] = sha256 end
  return answer(200, method == "GET" and body or nil)
end

local function of_bucket()
  drop_body()
  if path == "/_sink/reset" then
    keys:flush_all()
    keys:flush_expired()
    return answer(200)
  elseif path == "/_sink/objects" then
    local count = 0
    for _, name in ipairs(keys:get_keys(0)) do
      if name:sub(1, 2) == "o/" and not name:find("/_sensordrop/", 1, true) then count = count + 1 end
    end
    return answer(200, tostring(count))
  elseif method == "GET" and query["list-type"] then
    return list_objects()
  elseif method == "GET" and query.uploads then
    return answer(200, xml("<ListMultipartUploadsResult><Bucket>" .. bucket .. "</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"))
  elseif method == "GET" and query.location then
    return answer(200, xml("<LocationConstraint/>"))
  elseif method == "HEAD" or method == "PUT" then
    return answer(200)
  end
  return refuse(501, "NotImplemented")
end

if key == "" or bucket == "_sink" then
  return of_bucket()
elseif method == "PUT" then
  return query.uploadId and put_part() or put()
elseif method == "POST" and query.uploads then
  return create_upload()
elseif method == "POST" and query.uploadId then
  return complete_upload()
elseif method == "DELETE" then
  drop_body()
  if query.uploadId then forget_parts(query.uploadId) else keys:delete("o" .. path) end
  return answer(204)
elseif method == "GET" and query.uploadId then
  return list_parts()
elseif method == "HEAD" or method == "GET" then
  return look()
end
drop_body()
return refuse(501, "NotImplemented")
