namespace Sandbox.Egress.Secrets;

/// <summary>Replaces secrets in a stream: the same result however the stream is cut. Holds back only bytes that are the beginning of a secret, at most its longest form less one byte. Not thread-safe.</summary>
internal sealed class BodyRedactor(RedactionTable table) : IBodyRedactor
{
    private readonly MemoryStream _output = new();
    private byte[] _held = [];
    private bool _ended;

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> Push(ReadOnlySpan<byte> piece) => Go(piece, isEnd: false);

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> Finish()
    {
        var rest = Go([], isEnd: true);
        _ended = true;
        return rest;
    }

    private ReadOnlyMemory<byte> Go(ReadOnlySpan<byte> piece, bool isEnd)
    {
        ObjectDisposedException.ThrowIf(_ended, this);
        _output.SetLength(0);
        byte[] joined = [];
        var input = piece;
        if (_held.Length > 0)
        {
            joined = [.. _held, .. piece];
            input = joined;
        }

        var done = table.Replace(input, isEnd, _output);
        _held = input[done..].ToArray();
        return _output.GetBuffer().AsMemory(0, (int)_output.Length);
    }
}
