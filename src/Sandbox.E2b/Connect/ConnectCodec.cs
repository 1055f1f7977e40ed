using System.Text;
using Google.Protobuf;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Connect;

/// <summary>How messages of a call are written: the caller's choice, by its content type, and the answer's too.</summary>
internal abstract class ConnectCodec
{
    private const string UnaryPrefix = "application/";
    private const string StreamPrefix = "application/connect+";

    /// <summary>JSON: camelCase names, enums by name, 64-bit numbers as texts, bytes in base64; unknown members are let pass, for newer SDKs.</summary>
    public static ConnectCodec Json { get; } = new JsonCodec();

    /// <summary>Protocol buffers.</summary>
    public static ConnectCodec Proto { get; } = new ProtoCodec();

    private ConnectCodec(string name) => Name = name;

    /// <summary>As it stands in content types.</summary>
    public string Name { get; }

    /// <summary>Content type of a unary call.</summary>
    public string Unary => UnaryPrefix + Name;

    /// <summary>Content type of a stream.</summary>
    public string Stream => StreamPrefix + Name;

    /// <summary>The codec that a content type names, of a call of that kind; <see langword="null"/>: none of ours.</summary>
    public static ConnectCodec? Of(string? contentType, bool stream)
    {
        var type = contentType?.Split(';')[0].Trim();
        return Array.Find([Json, Proto], c => string.Equals(type, stream ? c.Stream : c.Unary, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>Reads a message.</summary>
    /// <exception cref="SandboxException">It is none.</exception>
    public T Read<T>(ReadOnlySpan<byte> data)
        where T : IMessage<T>, new()
    {
        try
        {
            return Parse<T>(data);
        }
        catch (Exception e) when (e is IOException or ArgumentException or FormatException or InvalidOperationException or OverflowException)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, $"The request is no {typeof(T).Name} in {Name}: {e.Message}");
        }
    }

    /// <summary>Writes a message.</summary>
    public abstract byte[] Write(IMessage message);

    /// <inheritdoc cref="Read"/>
    protected abstract T Parse<T>(ReadOnlySpan<byte> data)
        where T : IMessage<T>, new();

    private sealed class JsonCodec() : ConnectCodec("json")
    {
        private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);
        private static readonly JsonParser Parser = new(JsonParser.Settings.Default.WithIgnoreUnknownFields(true));

        public override byte[] Write(IMessage message) => Encoding.UTF8.GetBytes(JsonFormatter.Default.Format(message));

        // A call without arguments may have no body at all.
        protected override T Parse<T>(ReadOnlySpan<byte> data) => data.IsEmpty ? new T() : Parser.Parse<T>(Strict.GetString(data));
    }

    private sealed class ProtoCodec() : ConnectCodec("proto")
    {
        public override byte[] Write(IMessage message) => message.ToByteArray();

        protected override T Parse<T>(ReadOnlySpan<byte> data)
        {
            var message = new T();
            message.MergeFrom(data);
            return message;
        }
    }
}
