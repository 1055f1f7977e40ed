using System.Text;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>
/// Reads the body of a ClientHello (RFC 8446, 4.1.2). Stricter than servers are, because one that read it otherwise than we do would make us judge by a name that it does not serve: every length must fit exactly, and no extension may
/// come twice. Values that mean nothing (GREASE, RFC 8701) are passed over.
/// </summary>
internal static class ClientHelloParser
{
    private const int ServerNameExtension = 0x0000;
    private const int EncryptedHelloExtension = 0xfe0d;
    private const int MaxExtensions = 128;

    /// <summary>Reads it; <see langword="null"/> where it is malformed, and why.</summary>
    public static ClientHello? Parse(ReadOnlySpan<byte> body, out string fault)
    {
        var input = new Input(body);
        fault = "The ClientHello is not well-formed.";

        // Version, random; session id, cipher suites, compression methods.
        if (!input.TryTake(2, out var version) || version[0] != 0x03 || !input.TryTake(32, out _)
            || !input.TryTakeVector(1, out var session) || session.Length > 32
            || !input.TryTakeVector(2, out var suites) || suites.Length < 2 || suites.Length % 2 != 0
            || !input.TryTakeVector(1, out var compression) || compression.Length == 0)
        {
            return null;
        }

        if (input.IsEmpty)
        {
            return new ClientHello(null, false);
        }

        if (!input.TryTakeVector(2, out var list) || !input.IsEmpty)
        {
            return null;
        }

        return ReadExtensions(new Input(list), ref fault);
    }

    private static ClientHello? ReadExtensions(Input input, ref string fault)
    {
        Span<int> seen = stackalloc int[MaxExtensions];
        var count = 0;
        string? name = null;
        var isEncrypted = false;
        while (!input.IsEmpty)
        {
            if (!input.TryTake(2, out var kind) || !input.TryTakeVector(2, out var data))
            {
                return null;
            }

            var type = (kind[0] << 8) | kind[1];
            if (count == MaxExtensions || seen[..count].Contains(type))
            {
                fault = "The ClientHello has an extension twice, or too many.";
                return null;
            }

            seen[count++] = type;
            if (type == ServerNameExtension && !TryReadName(data, out name))
            {
                fault = "The server name (SNI) of the ClientHello is not the name of a host.";
                return null;
            }

            isEncrypted |= type == EncryptedHelloExtension;
        }

        return new ClientHello(name, isEncrypted);
    }

    private static bool TryReadName(ReadOnlySpan<byte> data, out string? name)
    {
        name = null;
        var input = new Input(data);
        if (!input.TryTakeVector(2, out var list) || !input.IsEmpty)
        {
            return false;
        }

        // One name, of the only type there is.
        var names = new Input(list);
        if (!names.TryTake(1, out var type) || type[0] != 0 || !names.TryTakeVector(2, out var host) || host.Length is 0 or > 254 || !names.IsEmpty || !Ascii.IsValid(host))
        {
            return false;
        }

        var text = Encoding.ASCII.GetString(host);
        name = HostNames.Read(text);
        return name is not null || System.Net.IPAddress.TryParse(text, out _);
    }

    private ref struct Input(ReadOnlySpan<byte> bytes)
    {
        private ReadOnlySpan<byte> _rest = bytes;

        public readonly bool IsEmpty => _rest.IsEmpty;

        public bool TryTake(int count, out ReadOnlySpan<byte> taken)
        {
            if (count > _rest.Length)
            {
                taken = default;
                return false;
            }

            taken = _rest[..count];
            _rest = _rest[count..];
            return true;
        }

        public bool TryTakeVector(int lengthBytes, out ReadOnlySpan<byte> taken)
        {
            taken = default;
            return TryTake(lengthBytes, out var length) && TryTake(lengthBytes == 1 ? length[0] : (length[0] << 8) | length[1], out taken);
        }
    }
}
